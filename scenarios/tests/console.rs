//! Some of the scenarios once more, on targets whose network goes over their console: each way that the network is used is among them.

fn main() -> std::process::ExitCode {
    harness::trials_over_console(&[
        "happy/*.yaml",
        "broker/cut-again.yaml",
        "enrollment/ca-busy.yaml",
        "power/restart.yaml",
        "provisioning/limits.yaml",
        "tls/revoked.yaml",
    ])
}
