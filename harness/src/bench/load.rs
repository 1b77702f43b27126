//! What threads and processes have cost so far, as the kernel tells it. Linux only; elsewhere nothing is claimed.

use std::time::Duration;

/// The calling thread's kernel id, so that another thread can ask what it has cost.
pub(super) fn this_thread() -> Option<u32> {
    std::fs::read_link("/proc/thread-self").ok()?.file_name()?.to_str()?.parse().ok()
}

/// CPU time of the calling thread, exact to a microsecond.
#[cfg(unix)]
pub(super) fn own() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

/// CPU time of the calling thread: not known on this system.
#[cfg(not(unix))]
pub(super) fn own() -> Duration {
    Duration::ZERO
}

/// How often the kernel could not queue a connection for a listener, on the whole machine.
pub(super) fn listen_overflows() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let place = lines.next()?.split_whitespace().position(|name| name == "ListenOverflows")?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

/// CPU time of one thread of this process.
pub(super) fn of_thread(id: u32) -> Option<Duration> {
    on_cpu(&format!("/proc/self/task/{id}/schedstat"))
}

/// CPU time of this process's children that still run: the broker (and the reaper, which sleeps).
pub(super) fn of_children() -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        for child in std::fs::read_to_string(task.path().join("children")).ok()?.split_whitespace() {
            let threads = std::fs::read_dir(format!("/proc/{child}/task")).ok()?;
            sum += threads.flatten().filter_map(|t| on_cpu(&t.path().join("schedstat").to_string_lossy())).sum::<Duration>();
        }
    }
    Some(sum)
}

/// Resident memory of this process, bytes.
pub(super) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn on_cpu(path: &str) -> Option<Duration> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
