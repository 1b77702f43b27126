//! The `harness` command line: one file a sub-command.

#[cfg(unix)]
mod board;
mod ca;
mod certs;
mod check;
mod cuts;
mod diff;
mod doctor;
mod init;
mod native;
mod replay;
mod reports;
mod run;
mod up;

use crate::broker::Choice;
use crate::serial::{Carrier, Line};
use crate::target::{self, Equipment, Facts, TargetError};
use crate::{exit, say, vocabulary};
use clap::{Parser, Subcommand};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Drives an ESP32 (its software twin, or its firmware in QEMU) through scenarios, against a real Mosquitto and a fake CA that can be told to lie,
/// and judges what it saw.
#[derive(Debug, Parser)]
#[command(
    name = "harness",
    version,
    max_term_width = 110,
    after_help = "\
Begin with `harness run`: it runs the scenarios below ./scenarios on the twin.

Exit codes: 0 pass, 1 fail (the device's fault), 2 wrong input, 3 inconclusive (the testbed's fault), 4 everything was skipped,
130 interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs scenarios and judges them.
    Run(run::Run),
    /// Checks scenario files without running them.
    Check(check::Check),
    /// Prints the manual of the scenario language: every verb, with an example.
    Steps(check::Steps),
    /// Prints the JSON Schema of scenario files, for editors.
    Schema,
    /// Judges recorded runs again.
    Replay(replay::Replay),
    /// Names the first event at which two recorded runs part.
    Diff(diff::Diff),
    /// Starts a CA, a broker and a time server for your own devices, and prints how to use them. Ctrl-C ends them.
    Up(up::Up),
    /// Runs the fake CA on its own, for your own devices: it issues, renews, and can be told to lie.
    Ca(ca::Ca),
    /// Makes certificates for a broker and its clients, and a mosquitto.conf for each security level.
    Certs(certs::Certs),
    /// Says whether `harness run` will work here, and what to install where it will not.
    Doctor(doctor::Doctor),
    /// Writes a first scenario and a workflow into a repository.
    Init(init::Init),
    /// Puts a virtual board behind a serial port, for the target rig, until Ctrl-C.
    #[cfg(unix)]
    Board(board::Board),
    /// Cuts power at every write of a provisioning run, and sees that the device recovers.
    Cuts(cuts::Cuts),
    /// Measures: provisioning to CONNACK, the runner's own cost, memory of a twin.
    Bench(crate::bench::Bench),
}

/// Options that choose a broker.
#[derive(Clone, Debug, clap::Args)]
struct BrokerOption {
    /// Which broker: `auto` (the first of these that works), `container` or `container:IMAGE` (Mosquitto in Docker or Podman,
    /// where built with the feature `container`), `process` (an installed Mosquitto; $MOSQUITTO_BIN names it), `bundled` (the
    /// one cargo built) or `external:HOST:PORT`. One that is named is never replaced by another.
    #[arg(long, default_value = "auto", value_name = "BROKER", env = "HARNESS_BROKER")]
    broker: Choice,
}

/// Options that choose the devices.
#[derive(Clone, Debug, clap::Args)]
struct DeviceOption {
    /// The targets to run on, with commas between: `twin` (the software twin, in this process), `qemu` (the firmware, in QEMU),
    /// `rig` (a board at a serial port), `wokwi` (a board in Wokwi, through wokwi-cli and the account of $WOKWI_CLI_TOKEN).
    #[arg(long, default_value = "twin", value_delimiter = ',', value_name = "TARGET")]
    target: Vec<String>,
    /// The emulator of the target qemu [default: qemu-system-riscv32 in PATH].
    #[arg(long, value_name = "PATH", env = "HARNESS_EMULATOR")]
    emulator: Option<PathBuf>,
    /// The firmware's image. Of the target qemu an ELF file [default: firmware/target/virt.elf of the workspace]; of the target wokwi a
    /// flasher_args.json or a merged image [default: what wokwi.toml names]; of the target rig the ELF file of what is on the board, to say
    /// where it crashes.
    #[arg(long, value_name = "FILE", env = "HARNESS_FIRMWARE")]
    firmware: Option<PathBuf>,
    /// The serial port that the board of the target rig is at; several, with commas between or one option each, are several boards.
    #[arg(long, value_name = "PATH", value_delimiter = ',', env = "HARNESS_PORT")]
    port: Vec<String>,
    /// Bits per second of that port [default: 115200].
    #[arg(long, value_name = "N", env = "HARNESS_BAUD")]
    baud: Option<u32>,
    /// The firmware is not this project's: what its lines mean, a file or `esp-idf`. It is told no settings, and steps that need this
    /// project's console skip.
    #[arg(long, value_name = "VOCABULARY", env = "HARNESS_VOCABULARY")]
    vocabulary: Option<String>,
    /// The program of the target wokwi [default: wokwi-cli in PATH].
    #[arg(long, value_name = "PATH", env = "HARNESS_WOKWI_CLI")]
    wokwi_cli: Option<PathBuf>,
    /// The folder with the wokwi.toml and diagram.json of the target wokwi [default: the nearest around this folder].
    #[arg(long, value_name = "FOLDER")]
    project: Option<PathBuf>,
    /// Another diagram than that of the folder.
    #[arg(long, value_name = "FILE")]
    diagram: Option<PathBuf>,
    /// How long a simulation may take until its device says the first byte [default: 60].
    #[arg(long, value_name = "SECONDS", env = "HARNESS_START_LIMIT", value_parser = clap::value_parser!(u64).range(1..=3600))]
    start_limit: Option<u64>,
    #[command(flatten)]
    line: LineOption,
}

/// Options of a console's line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LineOption {
    /// The network goes over the console: `console` (PPP, in RFC 1662 frames between the lines) or `console:text` (the same in lines of
    /// text, for a line that does not carry all values). No network card, no privilege [default: the board's own network; of the
    /// target wokwi `console`].
    #[arg(long, value_name = "LINK")]
    link: Option<Carrier>,
    /// The console's line carries so many bits a second each way, as a UART does, at most.
    #[arg(long, value_name = "BAUD", value_parser = clap::value_parser!(u32).range(300..))]
    pace: Option<u32>,
    /// The console's line loses one byte of N, each way; its lines are numbered, so that none stays lost.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..))]
    loss: Option<u32>,
    /// Writes the packets on the console's line to files in this folder, which Wireshark reads, one for each time with power.
    #[arg(long, value_name = "FOLDER")]
    pcap: Option<PathBuf>,
}

impl LineOption {
    /// What is said of a line is said of one that there is.
    pub(crate) fn check(&self, targets: &[&'static Facts], equipment: &Equipment) -> Result<(), TargetError> {
        let said = [
            ("--link", self.link.is_some()),
            ("--pace", self.pace.is_some()),
            ("--loss", self.loss.is_some()),
            ("--pcap", self.pcap.is_some()),
        ];
        match said.into_iter().find(|(_, said)| *said) {
            Some((option, _)) if targets.iter().all(|facts| (facts.link)(equipment).is_none()) => Err(TargetError {
                what: format!("do as {option} says: no target that is named has its network on its console"),
                help: "add --link console and a target that can, as --target qemu".into(),
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn line(&self) -> Line {
        Line { carrier: self.link, pace: self.pace, loses_one_in: self.loss, pcap: self.pcap.clone() }
    }
}

impl DeviceOption {
    /// The facts of each target named, once.
    fn targets(&self) -> Result<Vec<&'static Facts>, TargetError> {
        let mut named: Vec<&'static Facts> = Vec::new();
        for name in &self.target {
            let facts = target::facts(name)?;
            if !named.iter().any(|known| known.name == facts.name) {
                named.push(facts);
            }
        }
        Ok(named)
    }

    fn equipment(&self) -> Equipment {
        Equipment {
            emulator: self.emulator.clone(),
            firmware: self.firmware.clone(),
            ports: self.port.clone(),
            baud: self.baud,
            vocabulary: self.vocabulary.clone(),
            wokwi_cli: self.wokwi_cli.clone(),
            project: self.project.clone(),
            diagram: self.diagram.clone(),
            start_limit: self.start_limit.map(Duration::from_secs),
            line: self.line.line(),
        }
    }

    /// Whether the vocabulary that is named can be read; or the report of what is wrong in it.
    fn words(&self) -> Result<(), String> {
        let Some(name) = &self.vocabulary else { return Ok(()) };
        vocabulary::named(name).map(drop).map_err(|wrong| wrong.render(std::io::stderr().is_terminal()))
    }

    /// Whether what the targets need is there.
    fn check(&self) -> Result<(), TargetError> {
        let equipment = self.equipment();
        self.targets()?.iter().try_for_each(|facts| (facts.ready)(&equipment).map(drop))?;
        self.line.check(&self.targets()?, &equipment)
    }
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let code = match Arguments::try_parse() {
        Ok(arguments) => act(arguments.command),
        // Help and version are answers, whose words can be lost as any others'.
        Err(asked) if !asked.use_stderr() => {
            let styled = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let _ = if styled { say::words(asked.render().ansi()) } else { say::words(asked.render()) };
            exit::PASS
        }
        // A wrong option ends here with clap's message and exit code 2.
        Err(wrong) => wrong.exit(),
    };
    ExitCode::from(match say::lost() {
        Some(why) if code == exit::PASS => complain(format!("could not write standard output: {why}"), exit::INCONCLUSIVE),
        _ => code,
    })
}

fn act(command: Command) -> u8 {
    match command {
        Command::Run(run) => run.run(),
        Command::Check(check) => check.run(),
        Command::Steps(steps) => steps.run(),
        Command::Schema => {
            say::line(crate::scenario::schema::text());
            exit::PASS
        }
        Command::Replay(replay) => replay.run(),
        Command::Diff(diff) => diff.run(),
        Command::Up(up) => up.run(),
        Command::Ca(ca) => ca.run(),
        Command::Certs(certs) => certs.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Init(init) => init.run(),
        #[cfg(unix)]
        Command::Board(board) => board.run(),
        Command::Cuts(cuts) => cuts.run(),
        Command::Bench(bench) => bench.run(),
    }
}

/// Says an error that is the input's or the testbed's, and gives its exit code.
fn complain(what: impl std::fmt::Display, code: u8) -> u8 {
    say::aside(format_args!("harness: {what}"));
    code
}
