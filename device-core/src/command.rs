//! Lines the host may say on the console, written and parsed in one file.
//!
//! | line | does |
//! |---|---|
//! | `set NAME VALUE` | stages a setting; the value is the rest of the line, with `\n`, `\r` and `\\` escaped |
//! | `save` | stores what was staged, as one, and uses it |
//! | `show` | the settings; secrets as `<set>` |
//! | `provision JSON` | as `POST /provision`; the bearer is the field `user_token`, or `-` |
//! | `time UNIX` | tells the date, in seconds since 1970 |
//! | `clock jump MS`, `clock skip on` or `off` | moves the device clock; lets the shell move it while nothing but a deadline is waited for |
//! | `air add SSID CHANNEL RSSI PASSWORD` or `-`, then `[no-dhcp]`; `air remove SSID` | the simulated surroundings |
//! | `cut before WRITE [NTH]` | the simulated power goes just before the `NTH` (1) write of this kind from now on (`storage::Write`) |
//! | `surroundings TEXT` or `-` | keeps what is around the board ([`crate::surroundings`], escaped as in `set`), or that it is real, for its next start |
//! | `status`, `telemetry`, `reboot`, `factory-reset`, `help` | what they say; `telemetry` makes one reading now |
//!
//! An SSID or password with blanks, quotes or control characters is quoted: `"my \"lab\"\n"`.

use crate::output::AirChange;
use crate::secret::Secret;
use crate::storage::Write;
use crate::surroundings::Surroundings;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;
use core::fmt::Write as _;

/// The longest line read, in bytes: a setting's name and a PEM file on one line.
pub const LINE_MAX: usize = 24 * 1024;

/// The farthest jump of the device clock: a hundred years, in milliseconds.
pub const JUMP_MAX_MS: u64 = 100 * 365 * 86_400_000;

/// An order from the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stage a setting.
    Set {
        /// Its name, in any spelling.
        name: String,
        /// Its value; empty for the default.
        value: Secret,
    },
    /// Store and use what was staged.
    Save,
    /// Say the settings.
    Show,
    /// As `POST /provision`; the body holds passwords and tokens.
    Provision(Secret),
    /// The date.
    Time(i64),
    /// Move the device clock forward.
    ClockJump {
        /// By so many milliseconds.
        ms: u64,
    },
    /// Let the shell move the clock while nothing but a deadline is waited for, or not.
    ClockSkip(bool),
    /// Change the simulated surroundings.
    Air(AirChange),
    /// Have the power cut just before a write to storage.
    Cut {
        /// The kind of write.
        write: Write,
        /// The how-manieth of its kind from now on, from 1.
        nth: u32,
    },
    /// Keep what is around the board, or that nothing is simulated, for its next start.
    Surroundings(Option<Box<Surroundings>>),
    /// Say where the device stands.
    Status,
    /// Make one reading now.
    Telemetry,
    /// Restart.
    Reboot,
    /// Forget everything and restart.
    FactoryReset,
    /// Say the commands.
    Help,
}

/// The commands as `help` says them.
pub const HELP: &[&str] = &[
    "set NAME VALUE",
    "save",
    "show",
    "provision JSON",
    "time UNIX",
    "clock jump MS",
    "clock skip on|off",
    "air add SSID CHANNEL RSSI PASSWORD|- [no-dhcp]",
    "air remove SSID",
    "cut before WRITE [NTH]",
    "surroundings TEXT|-",
    "status",
    "telemetry",
    "reboot",
    "factory-reset",
    "help",
];

/// A line that is no command: what is allowed in its place. Values are not repeated, since they may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError(String);

impl CommandError {
    /// A line in whose place only this is allowed.
    pub(crate) fn allowed(what: &str) -> CommandError {
        CommandError(format!("allowed: {what}"))
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for CommandError {}

impl Command {
    /// Reads a line, without its line end.
    ///
    /// # Errors
    /// An unknown command, or arguments it does not take.
    pub fn parse(line: &str) -> Result<Command, CommandError> {
        if line.len() > LINE_MAX {
            return Err(CommandError(format!("line of {} bytes, allowed {LINE_MAX}", line.len())));
        }
        let line = line.trim_start();
        let (verb, rest) = split(line);
        let allowed = match verb {
            "set" => HELP[0],
            "provision" => HELP[3],
            "time" => HELP[4],
            "clock" if rest.starts_with("jump") => HELP[5],
            "clock" if rest.starts_with("skip") => HELP[6],
            "clock" => "clock jump MS, clock skip on|off",
            "air" if rest.starts_with("remove") => HELP[8],
            "air" => HELP[7],
            "cut" => HELP[9],
            "surroundings" => return surroundings(rest),
            _ => "",
        };
        let refused = || {
            if allowed.is_empty() {
                let verb: String = verb.chars().take(24).collect();
                CommandError(format!("`{verb}` is no command, allowed: {}", HELP.join(", ")))
            } else {
                CommandError::allowed(allowed)
            }
        };
        Command::read(verb, rest).ok_or_else(refused)
    }

    fn read(verb: &str, rest: &str) -> Option<Command> {
        let alone = |command: Command| rest.trim().is_empty().then_some(command);
        match verb {
            "set" => {
                let (name, value) = split(rest);
                (!name.is_empty()).then(|| Command::Set { name: name.into(), value: Secret::new(unescape(value)) })
            }
            "save" => alone(Command::Save),
            "show" => alone(Command::Show),
            "provision" => (!rest.trim().is_empty()).then(|| Command::Provision(Secret::new(rest.trim()))),
            "time" => rest.trim().parse().ok().map(Command::Time),
            "clock" => match split(rest.trim()) {
                ("jump", ms) => ms.parse().ok().filter(|ms| *ms <= JUMP_MAX_MS).map(|ms| Command::ClockJump { ms }),
                ("skip", "on") => Some(Command::ClockSkip(true)),
                ("skip", "off") => Some(Command::ClockSkip(false)),
                _ => None,
            },
            "air" => match split(rest.trim()) {
                ("add", rest) => air_add(rest).map(Command::Air),
                ("remove", rest) => {
                    let (ssid, rest) = word(rest)?;
                    (rest.is_empty() && fits_ssid(&ssid)).then_some(Command::Air(AirChange::Remove { ssid }))
                }
                _ => None,
            },
            "cut" => cut_before(rest),
            "status" => alone(Command::Status),
            "telemetry" => alone(Command::Telemetry),
            "reboot" => alone(Command::Reboot),
            "factory-reset" => alone(Command::FactoryReset),
            "help" => alone(Command::Help),
            _ => None,
        }
    }

    /// The line that says this, without a line end. Holds secrets where the command does.
    pub fn line(&self) -> String {
        match self {
            Command::Set { name, value } => format!("set {name} {}", escape(value.expose())),
            Command::Save => "save".into(),
            Command::Show => "show".into(),
            // Between JSON's tokens any blank is as good as a line end; inside its strings there is none.
            Command::Provision(json) => format!("provision {}", json.expose().replace(['\n', '\r'], " ").trim()),
            Command::Time(unix) => format!("time {unix}"),
            Command::ClockJump { ms } => format!("clock jump {ms}"),
            Command::ClockSkip(on) => format!("clock skip {}", if *on { "on" } else { "off" }),
            Command::Air(AirChange::Add { ssid, password, rssi, channel, dhcp }) => {
                let password = if password.is_empty() { "-".to_string() } else { quote(password.expose()) };
                format!("air add {} {channel} {rssi} {password}{}", quote(ssid), if *dhcp { "" } else { " no-dhcp" })
            }
            Command::Air(AirChange::Remove { ssid }) => format!("air remove {}", quote(ssid)),
            Command::Cut { write, nth } => format!("cut before {} {nth}", write.name()),
            Command::Surroundings(Some(surroundings)) => format!("surroundings {}", escape(&surroundings.text())),
            Command::Surroundings(None) => "surroundings -".into(),
            Command::Status => "status".into(),
            Command::Telemetry => "telemetry".into(),
            Command::Reboot => "reboot".into(),
            Command::FactoryReset => "factory-reset".into(),
            Command::Help => "help".into(),
        }
    }

    /// The words before a command's arguments, as `command-done` says them.
    pub fn verb(&self) -> &'static str {
        match self {
            Command::Set { .. } => "set",
            Command::Save => "save",
            Command::Show => "show",
            Command::Provision(_) => "provision",
            Command::Time(_) => "time",
            Command::ClockJump { .. } => "clock jump",
            Command::ClockSkip(_) => "clock skip",
            Command::Air(AirChange::Add { .. }) => "air add",
            Command::Air(AirChange::Remove { .. }) => "air remove",
            Command::Cut { .. } => "cut",
            Command::Surroundings(_) => "surroundings",
            Command::Status => "status",
            Command::Telemetry => "telemetry",
            Command::Reboot => "reboot",
            Command::FactoryReset => "factory-reset",
            Command::Help => "help",
        }
    }
}

fn fits_ssid(ssid: &str) -> bool {
    (1..=crate::provisioning::SSID_MAX).contains(&ssid.len())
}

fn cut_before(rest: &str) -> Option<Command> {
    let mut words = rest.split_whitespace();
    let write = (words.next()? == "before").then(|| words.next())??;
    let nth = words.next().map_or(Some(1), |nth| nth.parse().ok().filter(|nth| *nth > 0))?;
    words.next().is_none().then_some(Command::Cut { write: Write::from_name(write)?, nth })
}

/// Reads what follows `surroundings`.
///
/// # Errors
/// Nothing follows, or a text that is none.
fn surroundings(rest: &str) -> Result<Command, CommandError> {
    match rest.trim() {
        "" => Err(CommandError::allowed(HELP[10])),
        "-" => Ok(Command::Surroundings(None)),
        text => Ok(Command::Surroundings(Some(Box::new(Surroundings::parse(&unescape(text))?)))),
    }
}

fn air_add(rest: &str) -> Option<AirChange> {
    let (ssid, rest) = word(rest)?;
    let (channel, rest) = word(rest)?;
    let (rssi, rest) = word(rest)?;
    let bare = rest.starts_with('-');
    let (password, rest) = word(rest)?;
    let password = if bare && password == "-" { String::new() } else { password };
    let dhcp = match rest {
        "" => true,
        "no-dhcp" => false,
        _ => return None,
    };
    let channel = channel.parse().ok().filter(|c| (1..=13).contains(c))?;
    fits_ssid(&ssid).then_some(AirChange::Add { ssid, password: Secret::new(password), rssi: rssi.parse().ok()?, channel, dhcp })
}

/// The first word and what follows the blank after it.
fn split(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

/// The first word, quoted or not, and what follows, without blanks between.
fn word(text: &str) -> Option<(String, &str)> {
    let text = text.trim();
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = split(text);
        return (!word.is_empty() && !word.contains('"')).then(|| (word.into(), rest.trim_start()));
    };
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let rest = &quoted[at + 1..];
                let separate = rest.is_empty() || rest.starts_with(' ');
                return separate.then(|| (unescape(&quoted[..at]), rest.trim_start()));
            }
            _ => {}
        }
    }
    None
}

fn quote(text: &str) -> String {
    let bare =
        !text.is_empty() && text != "-" && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '"' && c != '\\');
    if bare { text.into() } else { format!("\"{}\"", escape(text).replace('"', "\\\"")) }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// The reverse of `escape`; an escape it does not know stays as it is, so that a person need not double every backslash.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut after = rest.chars();
        match after.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('"') => out.push('"'),
            Some('\\') => out.push('\\'),
            Some('u') if let Some((c, tail)) = code_point(after.as_str()) => {
                out.push(c);
                after = tail.chars();
            }
            _ => {
                out.push('\\');
                continue;
            }
        }
        rest = after.as_str();
    }
    out.push_str(rest);
    out
}

fn code_point(text: &str) -> Option<(char, &str)> {
    let (hex, rest) = text.strip_prefix('{')?.split_once('}')?;
    Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_lines_are_read() {
        let lab = |password: &str, dhcp| {
            Command::Air(AirChange::Add { ssid: "my lab".into(), password: Secret::new(password), rssi: -40, channel: 6, dhcp })
        };
        let kept = |seed, lab| {
            let Command::Air(lab) = lab else { panic!("a network") };
            let surroundings = Surroundings { seed, air: alloc::vec![lab], ..Surroundings::default() };
            Command::Surroundings(Some(Box::new(surroundings)))
        };
        for (line, command) in [
            ("set MQTT_CA_CERT a\\nb\\n", Command::Set { name: "MQTT_CA_CERT".into(), value: Secret::new("a\nb\n") }),
            ("set MQTT_USER  x ", Command::Set { name: "MQTT_USER".into(), value: Secret::new(" x ") }),
            ("set MQTT_USER", Command::Set { name: "MQTT_USER".into(), value: Secret::new("") }),
            ("set MQTT_PASSWORD a\\b", Command::Set { name: "MQTT_PASSWORD".into(), value: Secret::new("a\\b") }),
            ("  save ", Command::Save),
            ("time 1767225600", Command::Time(1_767_225_600)),
            ("clock jump 60000", Command::ClockJump { ms: 60_000 }),
            ("clock skip off", Command::ClockSkip(false)),
            ("air add \"my lab\" 6 -40 -", lab("", true)),
            ("air add \"my lab\" 6 -40 \"-\" no-dhcp", lab("-", false)),
            ("air remove lab", Command::Air(AirChange::Remove { ssid: "lab".into() })),
            ("cut before certificate", Command::Cut { write: Write::Certificate, nth: 1 }),
            ("surroundings -", Command::Surroundings(None)),
            ("surroundings seed 7\\nair add \"my lab\" 6 -40 -\\n", kept(7, lab("", true))),
            ("cut before queue-push 3", Command::Cut { write: Write::QueuePush, nth: 3 }),
            ("provision {\"a\":1}", Command::Provision(Secret::new("{\"a\":1}"))),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn garbage_is_refused_with_what_is_allowed() {
        for line in [
            "",
            "set",
            "Save",
            "save now",
            "time",
            "time x",
            "clock",
            "clock jump -1",
            "clock jump 3153600000001",
            "clock skip",
            "air",
            "air add lab",
            "air add lab 14 -40 -",
            "air add lab 6 -200 -",
            "air add lab 6 -40 - dhcp",
            "air remove",
            "air add \"lab 6 -40 -",
            "cut certificate 1",
            "cut before",
            "cut before lunch",
            "cut before key 0",
            "cut before key 1 2",
            "surroundings",
            "surroundings nothing",
            "surroundings lines numbered\\nlink",
            "provision",
            "reboot!",
        ] {
            let error = Command::parse(line).expect_err(line).to_string();
            assert!(error.contains("allowed"), "{line}: {error}");
        }
        assert!(Command::parse(&"x".repeat(LINE_MAX + 1)).is_err());
        assert!(!Command::parse("time hunter2").expect_err("not a number").to_string().contains("hunter2"));
    }

    #[test]
    fn every_line_of_the_help_is_known() {
        for line in HELP {
            let verb = line.split(' ').next().expect("a word");
            let unknown = Command::parse(verb).is_err_and(|e| e.to_string().contains("is no command"));
            assert!(!unknown, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name in "[A-Z_]{1,12}", value in "(?s).{0,40}", ssid in "(?s).{1,8}", password in "(?s).{0,20}",
            ms in 0..=JUMP_MAX_MS, unix: i64, rssi: i8, channel in 1u8..=13, dhcp: bool, write in 0..Write::ALL.len(), nth in 1u32.., json in r#"\{"[a-z \\]{0,9}":[0-9]\}"#,
        ) {
            let password = Secret::new(password);
            let add = AirChange::Add { ssid: ssid.clone(), password: password.clone(), rssi, channel, dhcp };
            let kept = Command::Surroundings(Some(Box::new(Surroundings { seed: ms, air: alloc::vec![add], ..Surroundings::default() })));
            for command in [
                Command::Set { name, value: Secret::new(value) },
                Command::Save, Command::Show, Command::Time(unix), Command::ClockJump { ms }, Command::ClockSkip(dhcp), Command::Status,
                Command::Telemetry, Command::Cut { write: Write::ALL[write], nth }, kept, Command::Surroundings(None), Command::Reboot, Command::FactoryReset, Command::Help, Command::Provision(Secret::new(json)),
                Command::Air(AirChange::Add { ssid: ssid.clone(), password, rssi, channel, dhcp }), Command::Air(AirChange::Remove { ssid }),
            ] {
                let line = command.line();
                prop_assert!(!line.contains(['\n', '\r']));
                prop_assert_eq!(Command::parse(&line), Ok(command), "{}", line);
            }
        }

        #[test]
        fn garbage_never_panics(line in "(set|air add|cut|clock|provision|time|)[ \"\\\\a-z0-9{}-]{0,30}") {
            let _ = Command::parse(&line);
        }
    }
}
