//! The `fake-wokwi-server` command: `harness::fake::server`.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    harness::child::answer_hidden_roles();
    harness::fake::server::main()
}

#[cfg(not(unix))]
fn main() -> std::process::ExitCode {
    eprintln!("fake-wokwi-server: QEMU's console needs a Unix socket: use Linux, macOS or WSL");
    std::process::ExitCode::from(2)
}
