//! Whose a container is: the label by which what a dead process left is told from what a living one uses.

use crate::child::began_at;

/// The label of every container of ours; its value is an owner.
pub(super) const LABEL: &str = "harness.owner";

/// This process: `<machine>/<process number>/<when it began>`.
pub(super) fn this_process() -> String {
    let pid = std::process::id();
    format!("{}/{pid}/{}", machine(), began_at(pid).unwrap_or_default())
}

/// Whether an owner was a process of this machine and runs no more. Of another machine's nothing is known.
pub(super) fn is_gone(owner: &str) -> bool {
    let mut parts = owner.splitn(3, '/');
    let (Some(whose), Some(pid), Some(began)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let Ok(pid) = pid.parse() else { return false };
    whose == machine() && began_at(pid).as_deref() != Some(began)
}

/// What a process number is good for: this boot of this machine and this set of processes, since several machines, or several containers
/// on one, may use one engine.
fn machine() -> String {
    #[cfg(target_os = "linux")]
    {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let processes = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        format!("{} {}", boot.trim(), processes.display())
    }
    #[cfg(all(unix, not(target_os = "linux")))]
    return rustix::system::uname().nodename().to_string_lossy().replace('/', "-");
    #[cfg(not(unix))]
    return std::env::var("COMPUTERNAME").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_process_of_this_machine_is_gone() {
        let us = this_process();
        assert!(!is_gone(&us));
        assert!(is_gone(&format!("{us}0")), "another process that got the number");
        let (machine, process) = us.split_once('/').unwrap();
        assert!(!is_gone(&format!("{machine} elsewhere/{process}0")));
        for nonsense in ["", "/", "a/b", "a/b/c"] {
            assert!(!is_gone(nonsense), "{nonsense}");
        }
    }
}
