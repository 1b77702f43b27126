//! Every scenario of this package, on every row of its matrix and every target, as a test.

fn main() -> std::process::ExitCode {
    harness::trials("**/*.yaml")
}
