//! Mosquitto built into this program, which runs itself again in a hidden role to be the broker (Mosquitto's state is global: one in
//! a process).
//!
//! It ends with its parent, however that ends: its standard input is a pipe from the parent, and the end of it is its own end.

use super::BrokerError;
use super::conf::BrokerSpec;
use super::mosquitto::Mosquitto;
use std::ffi::OsString;

/// Starts the bundled Mosquitto.
///
/// # Errors
/// When this program was built without it, does not answer hidden roles (see [`crate::child::answer_hidden_roles`]), or it does not start.
pub async fn start(spec: BrokerSpec) -> Result<Mosquitto, BrokerError> {
    Mosquitto::launch(program()?, spec).await
}

#[cfg(bundled_mosquitto)]
fn program() -> Result<super::mosquitto::Program, BrokerError> {
    let Some(role) = crate::child::own_role(crate::child::MOSQUITTO_ROLE) else {
        let what = "this program does not answer the hidden role of the bundled Mosquitto";
        return Err(BrokerError::new(what, "call harness::child::answer_hidden_roles() first thing in its main"));
    };
    Ok(super::mosquitto::Program {
        path: role.get_program().into(),
        arguments: role.get_args().map(OsString::from).collect(),
        ends: crate::child::Ends::WithItsInput,
        backend: super::Backend { name: "bundled", version: env!("HARNESS_BUNDLED_VERSION").into(), place: String::new() },
    })
}

#[cfg(not(bundled_mosquitto))]
fn program() -> Result<super::mosquitto::Program, BrokerError> {
    let (what, help) = match option_env!("HARNESS_NOT_BUNDLED") {
        Some(why) => {
            (format!("the bundled Mosquitto could not be built: {why}"), "give it a C compiler, perl and make, and build again")
        }
        None if cfg!(unix) => ("the bundled Mosquitto was left out of this program".into(), "build it with the feature `bundled`"),
        None => ("there is a bundled Mosquitto on Unix only".into(), "install Mosquitto 2, or name a broker as external:HOST:PORT"),
    };
    Err(BrokerError::new(what, help))
}

/// Is Mosquitto until it ends, with these arguments; the exit status. Only in a process of its own, and before it has threads.
#[cfg(bundled_mosquitto)]
pub(crate) fn run(arguments: Vec<OsString>) -> i32 {
    use std::io::{Read, stdin};
    std::thread::spawn(|| {
        // The parent says nothing; when it is gone, so is the pipe.
        while let Ok(1..) = stdin().read(&mut [0; 64]) {}
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
    c::mosquitto_main(arguments)
}

/// There is nothing to run.
#[cfg(not(bundled_mosquitto))]
pub(crate) fn run(_arguments: Vec<OsString>) -> i32 {
    2
}

/// The one call into Mosquitto's C.
#[cfg(bundled_mosquitto)]
#[expect(unsafe_code, reason = "Mosquitto is C")]
mod c {
    use std::ffi::{CString, OsString, c_char, c_int};
    use std::os::unix::ffi::OsStringExt;

    mod symbol {
        use super::{c_char, c_int};
        unsafe extern "C" {
            pub(super) fn mosquitto_main(argc: c_int, argv: *mut *mut c_char) -> c_int;
        }
    }

    /// Mosquitto's `main`.
    pub(super) fn mosquitto_main(arguments: Vec<OsString>) -> i32 {
        let owned = std::iter::once(OsString::from("mosquitto")).chain(arguments).map(|a| CString::new(a.into_vec()));
        let Ok(owned) = owned.collect::<Result<Vec<_>, _>>() else { return 2 };
        // Never freed: as for any `main`, they live as long as the process.
        let mut argv: Vec<*mut c_char> = owned.into_iter().map(CString::into_raw).collect();
        let Ok(argc) = c_int::try_from(argv.len()) else { return 2 };
        argv.push(std::ptr::null_mut());
        // SAFETY: `argv` holds `argc` writable C strings and a null after them, all alive during the call. Mosquitto's global state is
        // touched by this one call only, since the process does nothing else.
        unsafe { symbol::mosquitto_main(argc, argv.as_mut_ptr()) }
    }
}
