//! The container engine (Docker, or Podman with its Docker-compatible interface): where it is, whether it serves, whether it has the
//! image, and how what is ours comes out of it again.

use super::super::BrokerError;
use super::owner;
use futures_util::StreamExt;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::bollard::{API_DEFAULT_VERSION, Docker};
use tokio::sync::OnceCell;

/// How long an engine may take to answer at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long an engine may take over one request, in seconds.
const REQUEST_WITHIN_S: u64 = 30;
/// How long a pull may be silent.
const PULL_SILENT_MAX: Duration = Duration::from_secs(60);
/// How long a container may still appear after whoever asked for it was killed.
const APPEARS_WITHIN: Duration = Duration::from_secs(2);
/// How long removing is tried.
const REMOVE_WITHIN: Duration = Duration::from_secs(20);
/// Between two tries.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(20);
/// The variable that says whether an image that is missing may be pulled.
const PULL: &str = "HARNESS_PULL";

/// An engine that answered.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub docker: Docker,
    /// Such as `Docker 20.10.24`.
    pub version: String,
    /// Its address, such as `unix:///var/run/docker.sock`.
    pub host: String,
}

impl Engine {
    /// The engine of this machine, asked once in a process. What harnesses that are gone have left in it is removed.
    pub(super) async fn find() -> Result<Engine, BrokerError> {
        static FOUND: OnceCell<Result<Engine, BrokerError>> = OnceCell::const_new();
        FOUND.get_or_init(Engine::ask).await.clone()
    }

    async fn ask() -> Result<Engine, BrokerError> {
        let host = host();
        let no = |why: String| {
            let help = "start an engine (Docker, Podman; on Debian ci/engine.sh does), or name its socket in DOCKER_HOST";
            BrokerError::new(format!("no container engine at {host}: {why}"), help)
        };
        let docker = connect(&host).map_err(no)?;
        let asked = tokio::time::timeout(ANSWER_WITHIN, async {
            let docker = docker.negotiate_version().await?;
            docker.version().await.map(|told| (docker, told))
        });
        let answer = asked.await.map_err(|_| no(format!("no answer within {} s", ANSWER_WITHIN.as_secs())))?;
        let (docker, told) = answer.map_err(|e| no(e.to_string()))?;
        if !testcontainers_finds(&host) {
            return Err(BrokerError::new(
                format!("an engine answers at {host}, which is not where Docker's usually is"),
                format!("set DOCKER_HOST={host}"),
            ));
        }
        let podman = told.components.iter().flatten().any(|c| c.name.contains("Podman"));
        let version = format!("{} {}", if podman { "Podman" } else { "Docker" }, told.version.unwrap_or_default());
        let engine = Engine { docker, version, host };
        engine.sweep().await;
        Ok(engine)
    }

    /// Sees that the image is there. Pulls it only when `HARNESS_PULL=missing`, and then says how far it is.
    pub(super) async fn provide(&self, image: &str) -> Result<(), BrokerError> {
        let pull = match std::env::var(PULL).as_deref() {
            Err(_) | Ok("" | "never") => false,
            Ok("missing") => true,
            Ok(other) => return Err(BrokerError::new(format!("{PULL} is {other:?}"), "say never or missing")),
        };
        match self.docker.inspect_image(image).await {
            Ok(_) => Ok(()),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) if pull => self.pull(image).await,
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Err(BrokerError::new(
                format!("{} at {} has no image {image}", self.version, self.host),
                format!("pull it, let it be pulled by {PULL}=missing, or name another in HARNESS_MOSQUITTO_IMAGE"),
            )),
            Err(e) => Err(self.failed(&format!("look for the image {image}"), &e)),
        }
    }

    async fn pull(&self, image: &str) -> Result<(), BrokerError> {
        let no = |why: &str| {
            let help = "check the image's name and the way to its registry";
            BrokerError::new(format!("the image {image} could not be pulled: {why}"), help)
        };
        crate::say::aside(format!("broker: container: pulling {image}"));
        let mut steps =
            Box::pin(self.docker.create_image(Some(CreateImageOptionsBuilder::new().from_image(image).build()), None, None));
        let mut said = String::new();
        while let Some(step) = tokio::time::timeout(PULL_SILENT_MAX, steps.next())
            .await
            .map_err(|_| no(&format!("nothing happened for {} s", PULL_SILENT_MAX.as_secs())))?
        {
            let step = step.map_err(|e| no(&e.to_string()))?;
            if let Some(wrong) = step.error_detail.and_then(|e| e.message) {
                return Err(no(&wrong));
            }
            // One line for each layer and stage; the stages repeat with every byte.
            let line = [step.id.as_deref(), step.status.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(": ");
            if line != said {
                crate::say::aside(format!("broker: container: {line}"));
                said = line;
            }
        }
        Ok(())
    }

    /// Removes what harnesses of this machine have left that run no more. What cannot be removed now is left to the next one.
    async fn sweep(&self) {
        let ours = HashMap::from([("label".to_owned(), vec![owner::LABEL.to_owned()])]);
        let listed = self.docker.list_containers(Some(ListContainersOptionsBuilder::new().all(true).filters(&ours).build()));
        let Ok(Ok(found)) = tokio::time::timeout(ANSWER_WITHIN, listed).await else { return };
        let mut removing = tokio::task::JoinSet::new();
        for container in found {
            let owned_by = container.labels.as_ref().and_then(|labels| labels.get(owner::LABEL));
            if let (Some(id), Some(true)) = (container.id, owned_by.map(|owner| owner::is_gone(owner))) {
                let docker = self.docker.clone();
                removing.spawn(async move { remove(&docker, &id, true).await });
            }
        }
        removing.join_all().await;
    }

    /// Something that the engine did not do.
    pub(super) fn failed(&self, act: &str, why: &dyn std::fmt::Display) -> BrokerError {
        BrokerError::new(format!("{} could not {act}: {why}", self.version), "see what the engine's own log says, and try again")
    }
}

/// Removes containers by name with all that is in them; whether all are gone. Of one that was not made for sure it waits a moment
/// whether it appears. Blocks, and must be called outside a runtime.
pub(crate) fn remove_now(containers: Vec<(String, bool)>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(runtime), Ok(docker)) = (runtime, connect(&host())) else { return false };
    runtime.block_on(async {
        let mut removing = tokio::task::JoinSet::new();
        for (name, made) in containers {
            let docker = docker.clone();
            removing.spawn(async move { remove(&docker, &name, made).await });
        }
        removing.join_all().await.into_iter().all(|gone| gone)
    })
}

/// Removes one; whether it is gone.
async fn remove(docker: &Docker, name: &str, mut made: bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < REMOVE_WITHIN {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let asked = docker.remove_container(name, Some(options));
        match tokio::time::timeout(REMOVE_WITHIN, asked).await {
            Ok(Ok(())) => return true,
            Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) if made || began.elapsed() > APPEARS_WITHIN => {
                return true;
            }
            // Somebody else is removing it.
            Ok(Err(Error::DockerResponseServerError { status_code: 409, .. })) => made = true,
            _ => {}
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
    false
}

fn connect(host: &str) -> Result<Docker, String> {
    let connected = match host.split_once("://") {
        #[cfg(unix)]
        Some(("unix", _)) => Docker::connect_with_unix(host, REQUEST_WITHIN_S, API_DEFAULT_VERSION),
        #[cfg(windows)]
        Some(("npipe", _)) => Docker::connect_with_named_pipe(host, REQUEST_WITHIN_S, API_DEFAULT_VERSION),
        Some(("tcp" | "http", address)) if is_here(address) => {
            Docker::connect_with_http(host, REQUEST_WITHIN_S, API_DEFAULT_VERSION)
        }
        Some(("tcp" | "http" | "https" | "ssh", _)) => {
            return Err("it may be on another machine, whose 127.0.0.1 is not ours".into());
        }
        _ => return Err("such an address is unknown here; unix:///PATH and tcp://127.0.0.1:PORT are not".into()),
    };
    connected.map_err(|e| e.to_string())
}

/// Whether an address `HOST:PORT` is on this machine without a doubt.
fn is_here(address: &str) -> bool {
    let host = address.trim_end_matches('/').rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Where the engine is: `$DOCKER_HOST`, else the first of the usual sockets that is there, else Docker's.
fn host() -> String {
    named()
        .or_else(|| {
            usual_sockets().into_iter().chain(other_sockets()).find(|s| Path::new(s).exists()).map(|s| format!("unix://{s}"))
        })
        .unwrap_or_else(|| if cfg!(windows) { "npipe:////./pipe/docker_engine" } else { "unix:///var/run/docker.sock" }.into())
}

fn named() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}

/// The sockets that testcontainers looks at by itself, in its order.
fn usual_sockets() -> Vec<String> {
    let mut sockets = vec!["/var/run/docker.sock".to_owned()];
    sockets.extend(in_folder("XDG_RUNTIME_DIR", ".docker/run/docker.sock"));
    sockets.extend(in_folder("HOME", ".docker/run/docker.sock"));
    sockets.extend(in_folder("HOME", ".docker/desktop/docker.sock"));
    sockets
}

/// The sockets that it does not: rootless Docker's, and Podman's.
fn other_sockets() -> Vec<String> {
    let mut sockets: Vec<String> = in_folder("XDG_RUNTIME_DIR", "docker.sock").into_iter().collect();
    sockets.extend(in_folder("XDG_RUNTIME_DIR", "podman/podman.sock"));
    sockets.push("/run/podman/podman.sock".into());
    sockets
}

fn in_folder(variable: &str, path: &str) -> Option<String> {
    Some(format!("{}/{path}", std::env::var(variable).ok().filter(|folder| !folder.is_empty())?))
}

fn testcontainers_finds(host: &str) -> bool {
    named().is_some() || cfg!(windows) || host.strip_prefix("unix://").is_some_and(|path| usual_sockets().iter().any(|s| s == path))
}

/// Names an engine that testcontainers does not find by itself in `DOCKER_HOST`. First thing in `main`; where other threads run already,
/// nothing is done.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "testcontainers takes the engine's address from the environment alone")]
pub(crate) fn name_engine() {
    let host = host();
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if alone && !testcontainers_finds(&host) {
        // SAFETY: no other thread reads the environment, since there is no other thread.
        unsafe { std::env::set_var("DOCKER_HOST", host) };
    }
}

/// Elsewhere Docker's socket is where testcontainers looks.
#[cfg(not(target_os = "linux"))]
pub(crate) fn name_engine() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_of_another_machine_is_refused() {
        for here in ["localhost:2375", "127.0.0.1:2375", "127.9.9.9:1/", "[::1]:2375"] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in ["10.0.0.1:2375", "docker.example.org:2375", "localhost.example.org:1", ""] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
        assert!(connect("tcp://10.0.0.1:2375").unwrap_err().contains("another machine"));
        assert!(connect("ssh://me@there").unwrap_err().contains("another machine"));
        assert!(connect("docker.sock").unwrap_err().contains("unix:///PATH"));
        assert!(connect("unix:///nonexistent/docker.sock").is_err());
    }
}
