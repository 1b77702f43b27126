//! The `fake-wokwi-cli` command: `harness::fake::cli`.

fn main() -> std::process::ExitCode {
    harness::fake::cli::main()
}
