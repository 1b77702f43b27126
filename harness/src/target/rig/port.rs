//! A serial port: opened for us alone, reset where it has the wires, and what to do when it cannot be had.

use super::super::TargetError;
use serialport::{ErrorKind, SerialPort, SerialPortType};
use std::io;
use std::time::{Duration, Instant};

/// Bits per second, unless others are named: what ESP32 consoles speak.
pub const BAUD_DEFAULT: u32 = 115_200;
/// How long one read or write waits; whoever waits longer looks in between whether it is still wanted.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the wire to the reset pin is held.
const RESET_HELD: Duration = Duration::from_millis(100);
/// Ports that are named when one is not found.
const NAMED_MAX: usize = 12;

/// Opens a port so that nobody else can.
///
/// # Errors
/// It is not there, somebody else has it, or this user may not; the help says what to do.
pub fn open(path: &str, baud: u32) -> Result<Box<dyn SerialPort>, TargetError> {
    serialport::new(path, baud).timeout(LOOK_EVERY).open().map_err(|error| explain(path, &error))
}

/// Opens a port that is there, or will be within this time.
///
/// # Errors
/// As [`open`], when the time is up.
pub fn open_within(path: &str, baud: u32, limit: Duration) -> Result<Box<dyn SerialPort>, TargetError> {
    let began = Instant::now();
    loop {
        match open(path, baud) {
            Err(_) if began.elapsed() < limit => std::thread::sleep(LOOK_EVERY),
            opened => return opened,
        }
    }
}

/// Resets the board by the wires that development boards have (RTS to EN, DTR to the strapping pin); false where the port has none.
pub fn reset(port: &mut dyn SerialPort) -> bool {
    let mut pull = || {
        // Not into the ROM's loader: the strapping pin stays up.
        port.write_data_terminal_ready(false)?;
        port.write_request_to_send(true)?;
        std::thread::sleep(RESET_HELD);
        port.write_request_to_send(false)
    };
    pull().is_ok()
}

fn explain(path: &str, error: &serialport::Error) -> TargetError {
    let because = |why: &str| format!("open the port {path}: {why}");
    match error.kind() {
        ErrorKind::Io(io::ErrorKind::NotFound) => TargetError { what: because("there is none of that name"), help: there_are() },
        ErrorKind::Io(io::ErrorKind::PermissionDenied) => TargetError {
            what: because("this user may not"),
            help: "join the group that owns it (ls -l names it; Debian, Ubuntu: sudo usermod -aG dialout $USER), then log in again".into(),
        },
        ErrorKind::NoDevice if std::fs::exists(path).unwrap_or(false) => TargetError {
            what: because("another program has it"),
            help: "end that program (a serial monitor, another harness; `fuser` with the port's name tells which), or name another --port"
                .into(),
        },
        ErrorKind::NoDevice => TargetError { what: because("there is none of that name"), help: there_are() },
        _ => TargetError { what: because(&error.to_string()), help: format!("see that it is a serial port; {}", there_are()) },
    }
}

/// The ports of this machine, in words.
pub fn there_are() -> String {
    // The crate panics where a Linux has no such folder.
    let can_look = !cfg!(target_os = "linux") || std::path::Path::new("/sys/class/tty").is_dir();
    let found = if can_look { serialport::available_ports().unwrap_or_default() } else { Vec::new() };
    let named: Vec<String> = found
        .iter()
        .take(NAMED_MAX)
        .map(|port| match &port.port_type {
            SerialPortType::UsbPort(usb) => match &usb.product {
                Some(product) => format!("{} ({product})", port.port_name),
                None => port.port_name.clone(),
            },
            _ => port.port_name.clone(),
        })
        .collect();
    match &named[..] {
        [] => "no serial port is there: plug the board in, or begin a virtual one with `harness board`".into(),
        named => format!("there is {}; `harness board` begins a virtual one", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str) -> String {
        open(path, BAUD_DEFAULT).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_no_port_is_said_with_the_ports_there_are() {
        let said = refused("/dev/no-such-port");
        assert!(said.contains("none of that name") && said.contains("harness board"), "{said}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_no_port() {
        let said = refused("/dev/null");
        assert!(said.starts_with("could not open the port /dev/null") && said.contains("it is a serial port"), "{said}");
    }

    #[cfg(unix)]
    #[test]
    fn a_port_is_for_one_program() {
        let (_host, device) = serialport::TTYPort::pair().unwrap();
        let path = device.name().unwrap();
        drop(device);
        let mut held = open(&path, BAUD_DEFAULT).unwrap();
        let said = refused(&path);
        assert!(said.contains("another program has it") && said.contains("fuser"), "{said}");
        assert!(!reset(&mut *held), "a pseudo-terminal has no wires");
        drop(held);
        assert_eq!(refused(&path), "");
    }
}
