//! Wokwi's command line as a fake that works: the options, streams and exit codes of wokwi-cli 0.26.1, and the API's other end.

mod client;
mod expect;
mod project;
mod scenario;

use super::api;
use clap::Parser;
use clap::error::ErrorKind;
use client::{Client, Ears, Once, complain, print, throw};
use futures_util::StreamExt;
use project::Project;
use scenario::{Scenario, Verb, nanos, truthy};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};

/// The version of the command line whose behaviour this is.
const VERSION: &str = "0.26.1 (fake)";
/// Where the real one connects to unless it is told otherwise.
const SERVER: &str = "wss://wokwi.com/api/ws/beta";
/// How long the server may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of standard input that are taken at once.
const INPUT_BYTES: usize = 64 * 1024;
/// Bytes typed after the end that the real one keeps, and waits for more.
const KEPT_BYTES: usize = 16 * 1024;

/// Simulates a project, as Wokwi's command line does: a fake of it, for tests.
#[derive(Clone, Debug, Parser)]
#[command(name = "wokwi-cli", disable_version_flag = true, max_term_width = 110)]
struct Options {
    /// Path to project directory
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Output the version number
    #[arg(short = 'V', long = "version")]
    version: bool,
    /// Output the short version number
    #[arg(long)]
    short_version: bool,
    /// Timeout in milliseconds
    #[arg(long, value_name = "ms", default_value = "30000", allow_hyphen_values = true)]
    timeout: String,
    /// Expect text in serial output
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    expect_text: Option<String>,
    /// Fail if text found in serial output
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    fail_text: Option<String>,
    /// ELF file to simulate
    #[arg(long, value_name = "path")]
    elf: Option<String>,
    /// Path to diagram.json
    #[arg(long, value_name = "path")]
    diagram_file: Option<String>,
    /// Redirect stdin to serial
    #[arg(long)]
    interactive: bool,
    /// Scenario YAML file
    #[arg(long, value_name = "path")]
    scenario: Option<String>,
    /// Log serial output to file
    #[arg(long, value_name = "path")]
    serial_log_file: Option<PathBuf>,
    /// Exit code on timeout
    #[arg(long, value_name = "code", default_value = "42", allow_hyphen_values = true)]
    timeout_exit_code: String,
    /// Suppress status messages
    #[arg(short, long)]
    quiet: bool,
}

/// The end, with an exit code; whatever there was to say has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quit(u8);

/// Runs the command line.
pub fn main() -> ExitCode {
    let quit = match Options::try_parse() {
        Ok(options) => run(options).err().unwrap_or(Quit(0)),
        Err(asked) if asked.kind() == ErrorKind::DisplayHelp => asked.print().map_or(Quit(1), |()| Quit(0)),
        Err(wrong) => complain(wrong.to_string().trim_end()),
    };
    // A thread may still be reading standard input.
    std::process::exit(quit.0.into())
}

fn run(mut options: Options) -> Result<(), Quit> {
    if options.version || options.short_version {
        return print(format!("{VERSION}\n").as_bytes());
    }
    // An empty text is none.
    for text in
        [&mut options.expect_text, &mut options.fail_text, &mut options.elf, &mut options.scenario, &mut options.diagram_file]
    {
        text.take_if(|text| text.is_empty());
    }
    if !options.quiet {
        print(format!("Wokwi CLI v{VERSION}\n").as_bytes())?;
    }
    if ["init", "lint", "chip", "mcp"].iter().any(|command| options.path == Path::new(command)) {
        return Err(complain("this fake of Wokwi's command line simulates, and has no other commands"));
    }
    let token = std::env::var("WOKWI_CLI_TOKEN").ok().filter(|token| !token.is_empty());
    let Some(token) = token else {
        let hint = "Please set it to your Wokwi token.\nGet your token at https://wokwi.com/dashboard/ci.";
        return Err(throw(format!("Missing WOKWI_CLI_TOKEN environment variable. {hint}")));
    };
    let paths = project::find(&options.path, options.diagram_file.as_deref(), options.elf.as_deref()).map_err(throw)?;
    let scenario = options.scenario.as_ref().map(|path| read_scenario(&options.path.join(path))).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(throw)?;
    runtime.block_on(simulate(&options, paths.read().map_err(throw)?, scenario, &token))
}

fn read_scenario(path: &Path) -> Result<Scenario, Quit> {
    if !path.exists() {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        return Err(throw(format!("scenario file not found: {}.", path.display())));
    }
    let text = project::bytes(path).map_err(throw)?;
    scenario::read(&String::from_utf8_lossy(&text)).map_err(throw)
}

async fn simulate(options: &Options, project: Project, scenario: Option<Scenario>, token: &str) -> Result<(), Quit> {
    let log = options.serial_log_file.as_ref().filter(|path| !path.as_os_str().is_empty());
    let log = log.map(File::create).transpose().map_err(throw)?;
    let server = std::env::var("WOKWI_CLI_SERVER").unwrap_or_else(|_| SERVER.into());
    let (sink, incoming) = connect(&server, token).await?.split();
    let ears = Ears {
        quiet: options.quiet,
        expected: options.expect_text.clone(),
        failing: options.fail_text.clone(),
        log,
        scenario: scenario.as_ref().map(|scenario| scenario.name.clone()),
    };
    let (client, queue, expected) = Client::new(ears);
    let (keys, mut typed) = mpsc::channel(1);
    let mut reading = std::pin::pin!(client.read(incoming));
    let mut writing = std::pin::pin!(client::write(sink, queue));
    let work = async {
        begin(&client, &project, options.quiet).await?;
        let timeout = match number(&options.timeout).filter(|ms| *ms != 0) {
            Some(ms) => Some((ms, client.pause_point("time-absolute", ("nanos", json!(ms as f64 * 1e6)), false).await?)),
            None => None,
        };
        let mut start = project.start;
        start["chips"] = project.chips.iter().map(|(name, _, _)| name.as_str()).collect();
        start["pause"] = scenario.is_some().into();
        client.call("sim:start", start).await?;
        if options.interactive {
            std::thread::spawn(move || read_input(&keys));
        }
        play(options, &client, scenario.as_ref(), expected, timeout).await
    };
    tokio::select! {
        biased;
        quit = &mut reading => return Err(quit),
        done = work => done?,
        quit = type_in(&client, &mut typed) => return Err(quit),
        () = &mut writing => {}
    }
    client.close();
    let _ = tokio::time::timeout(CLOSE_LIMIT, async {
        tokio::select! { _ = reading => {}, () = writing => {} }
    })
    .await;
    if options.interactive {
        // As the real one, which lives for as long as somebody may type, or until there is too much that goes nowhere.
        let mut kept = 0;
        while kept < KEPT_BYTES {
            match typed.recv().await {
                Some(bytes) => kept += bytes.len(),
                None => break,
            }
        }
    }
    Ok(())
}

/// Connects.
async fn connect(server: &str, token: &str) -> Result<Socket, Quit> {
    let failed = |why: &dyn std::fmt::Display| throw(format!("Error connecting to {server}: {why}"));
    let mut request = server.into_client_request().map_err(|e| failed(&e))?;
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|e| failed(&e))?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("wokwi-cli/0.26.1 (fake)"));
    match tokio_tungstenite::connect_async_with_config(request, Some(api::limits()), true).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let (status, reason) = (response.status().as_u16(), response.status().canonical_reason().unwrap_or_default());
            if !matches!(status, 408 | 503 | 524) {
                return Err(failed(&format_args!("{status} {reason}")));
            }
            // The real one means to try again, and dies of its own preparations.
            crate::say::aside(format_args!("Connection to {server} failed: {reason} ({status})."));
            print(b"Will retry in 1000ms...\n")?;
            Err(throw("WebSocket was closed before the connection was established"))
        }
        Err(Error::Url(_)) if server.starts_with("wss:") => Err(failed(&"this fake speaks ws:// only")),
        Err(error) => Err(failed(&error)),
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Uploads the project, and listens.
async fn begin(client: &Client, project: &Project, quiet: bool) -> Result<(), Quit> {
    client.upload("diagram.json", &project.diagram, true).await?;
    for (name, content) in &project.files {
        client.upload(name, content, false).await?;
    }
    for (name, description, program) in &project.chips {
        client.upload(&format!("{name}.chip.json"), description, true).await?;
        client.upload(&format!("{name}.chip.wasm"), program, false).await?;
    }
    if !quiet {
        print(b"Starting simulation...\n")?;
    }
    client.call("serial-monitor:listen", Value::Null).await.map(drop)
}

/// Waits for the first of expected text, timeout and end of the scenario.
async fn play(
    options: &Options,
    client: &Client,
    scenario: Option<&Scenario>,
    expected: Once,
    timeout: Option<(i64, Once)>,
) -> Result<(), Quit> {
    let expected = async {
        if expected.await.is_err() {
            std::future::pending().await
        }
    };
    let timeout = async {
        let Some((ms, point)) = timeout else { return std::future::pending().await };
        reached(point).await;
        ms
    };
    let scenario = async {
        match scenario {
            Some(scenario) => steps(client, scenario).await,
            None => {
                // It runs already; the real one says so again.
                client.resume().await?;
                std::future::pending().await
            }
        }
    };
    tokio::select! {
        biased;
        () = expected => Ok(()),
        ms = timeout => {
            crate::say::aside(format_args!("\nTimeout: simulation did not finish in {ms}ms"));
            // As a process's exit code is cut to a byte.
            Err(Quit(number(&options.timeout_exit_code).map_or(1, |code| code as u8)))
        }
        done = scenario => done,
    }
}

async fn steps(client: &Client, scenario: &Scenario) -> Result<(), Quit> {
    for step in &scenario.steps {
        if let Some(name) = &step.name {
            client.note(&format!("Executing step: {name}"))?;
        }
        act(client, &step.verb).await?;
    }
    client.note("Scenario completed successfully")
}

async fn act(client: &Client, verb: &Verb) -> Result<(), Quit> {
    match verb {
        Verb::Delay(time) => {
            let delay = nanos(time).map_err(throw)?;
            client.note(&format!("delay {time}"))?;
            run_for(client, delay).await
        }
        Verb::ExpectChipOutput(text) => {
            reached(client.chip_says(text)).await;
            client.note(&format!("Expected chip output matched: \"{text}\""))
        }
        Verb::ExpectPin(what) => {
            let (part, pin) = (&what["part-id"], if what["name"].is_null() { &what["pin"] } else { &what["name"] });
            let place = format!("{}:{}", shown(part), shown(pin));
            client.note(&format!("expect-pin {place} == {}", shown(&what["value"])))?;
            let read = client.call("pin:read", json!({ "part": part, "pin": pin })).await?;
            let value = u8::from(truthy(&read["value"]));
            if what["value"].as_f64() == Some(f64::from(value)) {
                return Ok(());
            }
            Err(client.failed(&format!("GPIO {place} expected to be {} but was {value}", shown(&what["value"]))))
        }
        Verb::SetControl(what) => {
            let control = if what["name"].is_null() { &what["control"] } else { &what["name"] };
            let params = json!({ "part": what["part-id"], "control": control, "value": what["value"] });
            client.call("control:set", params).await.map(drop)
        }
        Verb::WaitSerial(text) => {
            reached(client.pause_point("serial-bytes", ("bytes", json!(text.as_bytes())), true).await?).await;
            client.note(&format!("Expected text matched: \"{text}\""))
        }
        Verb::WriteSerial(bytes) => client.call("serial-monitor:write", json!({ "bytes": bytes })).await.map(drop),
        Verb::Touch(what) => {
            let duration = nanos(what["duration"].as_str().unwrap_or("50ms")).map_err(throw)?;
            client.note(&format!("touch {}", place(what)))?;
            let mut params = json!({ "part": what["part-id"], "x": what["x"], "y": what["y"], "event": "press" });
            params["releaseAfter"] = duration.into();
            client.call("touch:event", params).await?;
            if truthy(&what["wait"]) { run_for(client, duration).await } else { Ok(()) }
        }
        Verb::TouchEvent(event, what) => {
            let (x, y) = if *event == "release" { (json!(0), json!(0)) } else { (what["x"].clone(), what["y"].clone()) };
            client.note(&match *event {
                "press" => format!("touch-press {}", place(what)),
                "move" => format!("touch-move {} to ({}, {})", shown(&what["part-id"]), shown(&x), shown(&y)),
                _ => format!("touch-release {}", shown(&what["part-id"])),
            })?;
            let params = json!({ "part": what["part-id"], "x": x, "y": y, "event": event });
            client.call("touch:event", params).await.map(drop)
        }
        Verb::None => Err(complain("Unknown key in step")),
    }
}

fn place(what: &Value) -> String {
    format!("{} at ({}, {})", shown(&what["part-id"]), shown(&what["x"]), shown(&what["y"]))
}

async fn run_for(client: &Client, delay: f64) -> Result<(), Quit> {
    reached(client.pause_point("time-relative", ("nanos", json!(delay)), true).await?).await;
    Ok(())
}

async fn reached(point: Once) {
    if point.await.is_err() {
        std::future::pending().await
    }
}

/// Gives what is typed to the device, one piece at a time: the next leaves once the server has answered.
async fn type_in(client: &Client, typed: &mut mpsc::Receiver<Vec<u8>>) -> Quit {
    while let Some(bytes) = typed.recv().await {
        if let Err(quit) = client.call("serial-monitor:write", json!({ "bytes": bytes })).await {
            return quit;
        }
    }
    std::future::pending().await
}

fn read_input(keys: &mpsc::Sender<Vec<u8>>) {
    let mut input = std::io::stdin().lock();
    let mut buffer = vec![0; INPUT_BYTES];
    while let Ok(count) = input.read(&mut buffer) {
        if count == 0 || keys.blocking_send(buffer[..count].to_vec()).is_err() {
            return;
        }
    }
}

/// A value as JavaScript shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "undefined".into(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The whole number that a text begins with.
fn number(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    text[..text.len() - unsigned.len() + digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_javascript_reads_them() {
        assert_eq!((number("30000"), number("10s"), number(" -5x")), (Some(30_000), Some(10), Some(-5)));
        assert_eq!((number("soon"), number(""), number("-")), (None, None, None));
    }
}
