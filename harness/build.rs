//! Builds the bundled Mosquitto: the C sources of the broker, taken from the published crate `libmosquitto-sys`, with the system's
//! OpenSSL where pkg-config knows one, else with one built from source.
//!
//! Mosquitto is EPL-2.0 OR EDL-1.0, OpenSSL is Apache-2.0. Where the broker cannot be built, harness is built without it and says why
//! when it is asked for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(bundled_mosquitto)");
    #[cfg(all(unix, feature = "bundled"))]
    match mosquitto::build() {
        Ok(()) => println!("cargo::rustc-cfg=bundled_mosquitto"),
        Err(why) => {
            let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
            println!("cargo::warning=harness is built without the bundled Mosquitto: {why}");
            println!("cargo::rustc-env=HARNESS_NOT_BUNDLED={why}");
        }
    }
}

#[cfg(all(unix, feature = "bundled"))]
mod mosquitto {
    use std::env;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The crate that carries the sources, as `Cargo.toml` pins it, and the version of Mosquitto in it.
    const CRATE: &str = "libmosquitto-sys";
    const CRATE_VERSION: &str = "0.2.3";
    const VERSION: &str = "2.0.9";

    /// The broker's objects, as `src/Makefile` lists them (but for the epoll one, which is Linux's only).
    const OBJECTS: &str = "mosquitto alias_mosq bridge bridge_topic conf conf_includedir context control database handle_auth
        handle_connack handle_connect handle_disconnect handle_ping handle_pubackcomp handle_publish handle_pubrec handle_pubrel
        handle_suback handle_subscribe handle_unsuback handle_unsubscribe keepalive logging loop memory_mosq memory_public misc_mosq
        mux mux_epoll mux_poll net net_mosq net_mosq_ocsp packet_datatypes packet_mosq password_mosq property_broker property_mosq
        persist_read persist_read_v234 persist_read_v5 persist_write persist_write_v5 plugin plugin_public read_handle retain security
        security_default send_auth send_connack send_connect send_disconnect send_mosq send_publish send_suback send_subscribe
        send_unsuback send_unsubscribe service session_expiry signals strings_mosq subs sys_tree time_mosq topic_tok tls_mosq
        utf8_mosq util_mosq util_topic websockets will_delay will_mosq xtreport";

    const OPTIONS: [&str; 8] = [
        "WITH_BROKER",
        "WITH_TLS",
        "WITH_TLS_PSK",
        "WITH_EC",
        "WITH_BRIDGE",
        "WITH_PERSISTENCE",
        "WITH_SYS_TREE",
        "WITH_UNIX_SOCKETS",
    ];

    pub fn build() -> Result<(), String> {
        let root = sources()?;
        let mut compiler = cc::Build::new();
        compiler.cargo_warnings(false).warnings(false).flag_if_supported("-w").opt_level(1);
        for object in OBJECTS.split_whitespace() {
            let file = format!("{object}.c");
            let candidates = [root.join("src").join(&file), root.join("lib").join(&file)];
            let source = candidates.into_iter().find(|p| p.is_file());
            compiler.file(source.ok_or_else(|| format!("{} has no {file}", root.display()))?);
        }
        for part in ["", "include", "src", "lib", "deps"] {
            compiler.include(root.join(part));
        }
        for option in OPTIONS {
            compiler.define(option, None);
        }
        if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
            compiler.define("WITH_EPOLL", None);
        }
        compiler.define("VERSION", format!("\"{VERSION}\"").as_str()).define("main", "mosquitto_main");
        // Before the libraries it needs, for linkers that read from left to right.
        let openssl = openssl()?;
        compiler.includes(&openssl.include);
        compiler.try_compile("mosquitto_broker").map_err(|e| e.to_string())?;
        for line in openssl.link {
            println!("{line}");
        }
        println!("cargo::rustc-link-lib=m");
        println!("cargo::rustc-env=HARNESS_BUNDLED_VERSION={VERSION}");
        Ok(())
    }

    /// Where cargo has put the sources. It has put them somewhere: they are a build dependency.
    fn sources() -> Result<PathBuf, String> {
        let unpacked = format!("{CRATE}-{CRATE_VERSION}");
        let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
        let registries = home.and_then(|h| h.join("registry/src").read_dir().ok());
        let mut places: Vec<_> = registries.into_iter().flatten().flatten().map(|r| r.path().join(&unpacked)).collect();
        if !places.iter().any(|p| p.is_dir()) {
            places.extend(vendored());
        }
        let root = places.into_iter().map(|p| p.join("mosquitto")).find(|p| p.join("src/mosquitto.c").is_file());
        root.ok_or_else(|| format!("the sources of {unpacked} are not found in cargo's registry or vendor directory"))
    }

    /// Asks cargo, for packages that come from another place than its registry's.
    fn vendored() -> Option<PathBuf> {
        let manifest = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("Cargo.toml");
        let mut cargo = Command::new(env::var_os("CARGO")?);
        cargo.args(["metadata", "--offline", "--format-version", "1", "--filter-platform"]);
        let metadata = cargo.arg(env::var_os("TARGET")?).arg("--manifest-path").arg(manifest).output().ok()?.stdout;
        let metadata = String::from_utf8(metadata).ok()?;
        let package = metadata.split_once(&format!("\"name\":\"{CRATE}\",\"version\":\"{CRATE_VERSION}\""))?.1;
        let path = package.split_once("\"manifest_path\":\"")?.1.split_once('"')?.0;
        Some(Path::new(path).parent()?.to_owned())
    }

    struct OpenSsl {
        include: Vec<PathBuf>,
        /// What cargo is told once Mosquitto itself is linked.
        link: Vec<String>,
    }

    fn openssl() -> Result<OpenSsl, String> {
        let system = pkg_config::Config::new().cargo_metadata(false).env_metadata(true).atleast_version("1.1.1").probe("openssl");
        if let Ok(found) = system {
            let places = found.link_paths.iter().map(|p| format!("cargo::rustc-link-search=native={}", p.display()));
            let libraries = found.libs.iter().map(|l| format!("cargo::rustc-link-lib={l}"));
            return Ok(OpenSsl { link: places.chain(libraries).collect(), include: found.include_paths });
        }
        let built = openssl_src::Build::new().try_build()?;
        let place = format!("cargo::rustc-link-search=native={}", built.lib_dir().display());
        let libraries = built.libs().iter().map(|l| format!("cargo::rustc-link-lib=static={l}"));
        Ok(OpenSsl { link: std::iter::once(place).chain(libraries).collect(), include: vec![built.include_dir().to_owned()] })
    }
}
