//! What wokwi-cli said when it ended: whose fault that is, and the next thing to do. Its exit code 1 alone does not tell.

/// The exit code that it is told to have when the simulated time is up; its own default.
pub const TIMEOUT_CODE: i32 = 42;
/// Bytes of what it said that are shown.
const SHOWN_MAX: usize = 400;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device did not do what was expected of it.
    Device,
    /// The simulated time is up.
    Time,
    /// What it was given is wrong: a file, an option, the token.
    Input,
    /// The simulator or the way to it; the same may work the next time.
    Simulator,
    /// It does not say.
    Unknown,
}

/// A complaint, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Whose fault it is.
    pub fault: Fault,
    /// What it said, in a line; nothing of its own stack.
    pub said: String,
    /// The next thing to do.
    pub help: &'static str,
}

/// What it says of the device. The first also stands in what scenarios assert.
const DEVICE: [&str; 4] = ["TEST FAILED.", "Screenshot mismatch", "has a different size", "] GPIO "];
/// What it says of the connection. Node's own words for one are among them: in 0.26.1 its retries end in one.
const SIMULATOR: [&str; 13] = [
    "API Error:",
    "Error connecting to",
    "Failed to connect to",
    "closed unexpectedly: code",
    "WebSocket was closed before",
    "socket hang up",
    "Error exporting VCD",
    "ECONNRESET",
    "ECONNREFUSED",
    "ENOTFOUND",
    "ETIMEDOUT",
    "EAI_AGAIN",
    "EPIPE",
];
/// What it says of the token.
const TOKEN: [&str; 4] = ["WOKWI_CLI_TOKEN", ": 401 ", ": 403 ", "nauthorized"];
/// What it says of its input.
const INPUT: [&str; 20] = [
    "Error in wokwi.toml",
    "Invalid scenario step key",
    "Unsupported scenario version",
    "Scenario ",
    "scenario file",
    "Unknown key in step",
    "missing required parameter",
    "Missing units",
    "Invalid ",
    "Value must be",
    "unknown option",
    "unknown command",
    "too many arguments",
    "argument missing",
    "not found",
    "no such file",
    "flash_files is not defined",
    "YAMLParseError",
    "is not valid JSON",
    "Cannot convert undefined",
];

/// Reads how it ended: its exit code (none: by a signal) and its standard error.
pub fn read(code: Option<i32>, stderr: &str) -> Complaint {
    let stderr = &plain(stderr);
    let said = in_a_line(stderr);
    let any = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
    // `Error: [12ns] …` is what a step of a scenario throws.
    let asserted = stderr.lines().any(|line| {
        let nanos = line.strip_prefix("Error: [").and_then(|rest| rest.split_once("ns]")).map(|(nanos, _)| nanos);
        nanos.is_some_and(|nanos| !nanos.is_empty() && nanos.bytes().all(|b| b.is_ascii_digit()))
    });
    let (fault, help) = if asserted || any(&DEVICE) {
        (Fault::Device, "look at the device's last lines")
    } else if stderr.contains("Timeout: simulation did not finish") || (code == Some(TIMEOUT_CODE) && said.is_empty()) {
        (Fault::Time, "look at what was waited for, or give more simulated time")
    } else if any(&TOKEN) {
        (Fault::Input, "make a token at https://wokwi.com/dashboard/ci, and set it: export WOKWI_CLI_TOKEN=…")
    } else if any(&SIMULATOR) {
        (Fault::Simulator, "see that this machine reaches the simulator and that the account has minutes left; then run it again")
    } else if any(&INPUT) {
        (Fault::Input, "correct what it names; `wokwi-cli lint` checks a diagram")
    } else {
        (Fault::Unknown, "run it again; when it stays so, run wokwi-cli by hand and see what it says")
    };
    Complaint { fault, said, help }
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.said.is_empty() { "it said nothing" } else { &self.said })
    }
}

/// What it said without colours.
fn plain(stderr: &str) -> String {
    let mut plain = String::with_capacity(stderr.len());
    let mut rest = stderr;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.find(|c: char| c.is_ascii_alphabetic()).and_then(|at| after.get(at + 1..)).unwrap_or_default();
    }
    plain + rest
}

/// What it said, in one line: without empty lines and the lines that say where in its program it was.
fn in_a_line(plain: &str) -> String {
    let own = |line: &&str| {
        let stack = ["at ", "^", "throw ", "node:", "Node.js v", "Emitted 'error' event"];
        !line.is_empty() && !stack.iter().any(|word| line.starts_with(word))
    };
    let mut said = plain.lines().map(str::trim).filter(own).collect::<Vec<_>>().join("; ");
    said.retain(|c| !c.is_control());
    said.truncate(said.floor_char_boundary(SHOWN_MAX));
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wokwi-cli 0.26.1 says it.
    const SAID: [(i32, &str, Fault, &str); 16] = [
        (
            1,
            "Error: Missing WOKWI_CLI_TOKEN environment variable. Please set it to your Wokwi token.\nGet your token at https://wokwi.com/dashboard/ci.\n",
            Fault::Input,
            "Error: Missing WOKWI_CLI_TOKEN environment variable. Please set it to your Wokwi token.; Get your token at https://wokwi.com/dashboard/ci.",
        ),
        (
            1,
            "Error: Error connecting to wss://wokwi.com/api/ws/beta: 401 Unauthorized\n    at _WebSocket.handleUnexpected (/snapshot/cli.cjs:49798:18)\n",
            Fault::Input,
            "Error: Error connecting to wss://wokwi.com/api/ws/beta: 401 Unauthorized",
        ),
        (
            1,
            "Error: Error connecting to ws://127.0.0.1:9: connect ECONNREFUSED 127.0.0.1:9\n    at x\n",
            Fault::Simulator,
            "Error: Error connecting to ws://127.0.0.1:9: connect ECONNREFUSED 127.0.0.1:9",
        ),
        (
            1,
            "Connection to ws://x failed: Service Unavailable (503).\nnode:events:502\n      throw er; // Unhandled 'error' event\n      ^\n\nError: WebSocket was closed before the connection was established\n    at y\nEmitted 'error' event on _WebSocket instance at:\n    at z\n\nNode.js v20.20.2\n",
            Fault::Simulator,
            "Connection to ws://x failed: Service Unavailable (503).; Error: WebSocket was closed before the connection was established",
        ),
        (
            1,
            "API Error: Connection to transport closed unexpectedly: code 1006\n",
            Fault::Simulator,
            "API Error: Connection to transport closed unexpectedly: code 1006",
        ),
        (42, "\nTimeout: simulation did not finish in 1500ms\n", Fault::Time, "Timeout: simulation did not finish in 1500ms"),
        (
            7,
            "\n\u{1b}[31mTimeout\u{1b}[39m: simulation did not finish in 1500ms\n",
            Fault::Time,
            "Timeout: simulation did not finish in 1500ms",
        ),
        (
            1,
            "Error: [0ns] GPIO esp:5 expected to be 1 but was 0\n    at TestScenario.fail (x)\n",
            Fault::Device,
            "Error: [0ns] GPIO esp:5 expected to be 1 but was 0",
        ),
        (
            1,
            "\n\nError: Unexpected text found: \"boot\"\nTEST FAILED.\n",
            Fault::Device,
            "Error: Unexpected text found: \"boot\"; TEST FAILED.",
        ),
        (1, "Error: Unsupported scenario version: 2\n    at x\n", Fault::Input, "Error: Unsupported scenario version: 2"),
        (1, "Error: Invalid scenario step key: wait-serail\n", Fault::Input, "Error: Invalid scenario step key: wait-serail"),
        (1, "Error: Missing units: 100 minutes\n", Fault::Input, "Error: Missing units: 100 minutes"),
        (1, "Error: scenario file not found: /p/nofile.yaml.\n", Fault::Input, "Error: scenario file not found: /p/nofile.yaml."),
        (1, "error: unknown option '--nooption'\n", Fault::Input, "error: unknown option '--nooption'"),
        (1, "Error: Error in wokwi.toml: Unexpected character\n", Fault::Input, "Error: Error in wokwi.toml: Unexpected character"),
        (134, "FATAL ERROR: Reached heap limit\n", Fault::Unknown, "FATAL ERROR: Reached heap limit"),
    ];

    #[test]
    fn whose_fault_it_is_stands_in_what_it_said() {
        for (code, stderr, fault, said) in SAID {
            let complaint = read(Some(code), stderr);
            assert_eq!((complaint.fault, complaint.said.as_str()), (fault, said));
        }
        assert_eq!(read(Some(TIMEOUT_CODE), "").fault, Fault::Time);
        assert_eq!(read(None, "").fault, Fault::Unknown);
        assert!(read(Some(1), &"x".repeat(10_000)).said.len() <= SHOWN_MAX);
        assert_eq!(read(Some(1), "cut off \u{1b}[3").said, "cut off");
    }
}
