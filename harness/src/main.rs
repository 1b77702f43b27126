//! The `harness` command.

fn main() -> std::process::ExitCode {
    harness::child::answer_hidden_roles();
    harness::cli::main()
}
