//! Every scenario of this repository, on every row of its matrix, as a test.

fn main() -> std::process::ExitCode {
    harness::trials("scenarios/**/*.yaml")
}
