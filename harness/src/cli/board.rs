//! `harness board`: a virtual board behind a serial port, for the target rig and whatever else opens serial ports.

use super::{complain, run};
use crate::child::{self, PrivateDir};
use crate::target::rig::board::{Board as Virtual, Order};
use crate::target::rig::noise::Badness;
use crate::target::{self, Equipment};
use crate::{exit, say};
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use tokio::sync::mpsc::{self, Sender};

/// The target that a virtual board is made of.
const MADE_OF: &str = "qemu";
/// Orders that wait to be carried out.
const ORDERS_MAX: usize = 16;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
In one terminal:   harness board --at ./port
In another:        harness run --target rig --port ./port --link console scenarios/happy

The board is the firmware in QEMU; whatever opens serial ports can open its port. It runs until Ctrl-C, or the end of its standard input
(not where that is /dev/null, as in the background).
Lines on standard input, meanwhile:
  unplug    pulls the cable: the port goes away
  plug      puts it in again: a new port, at the same path
  reset     power goes and comes back; what the board stored stays

Exit codes: 0 it was told to end, 2 wrong input, 3 it could not run.")]
pub(super) struct Board {
    /// Where the port is to be: a link that leads to it while it is plugged in [default: in a temporary folder].
    #[arg(long, value_name = "PATH")]
    at: Option<PathBuf>,
    /// A bad line: one byte of so many is lost, in each direction.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    lose: Option<u32>,
    /// A bad line: behind one line of so many comes garbage, in each direction.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    garbage: Option<u32>,
    /// Where a bad line is bad, and the board's chance: the same seed makes the same choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The emulator [default: qemu-system-riscv32 in PATH].
    #[arg(long, value_name = "PATH", env = "HARNESS_EMULATOR")]
    emulator: Option<PathBuf>,
    /// The firmware's image, an ELF file [default: firmware/target/virt.elf of the workspace].
    #[arg(long, value_name = "ELF", env = "HARNESS_FIRMWARE")]
    firmware: Option<PathBuf>,
}

impl Board {
    pub(super) fn run(self) -> u8 {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return complain(format!("could not start the asynchronous runtime: {error}"), exit::INCONCLUSIVE),
        };
        let code = match runtime.block_on(self.serve()) {
            Ok(()) => exit::PASS,
            Err(error) => complain(error, exit::INCONCLUSIVE),
        };
        // Nothing waits for the thread that reads standard input.
        runtime.shutdown_background();
        child::finish();
        code
    }

    async fn serve(&self) -> Result<(), Box<dyn std::error::Error>> {
        let interrupted = run::interruption();
        let (folder, at) = match &self.at {
            Some(at) => (None, at.clone()),
            None => {
                let folder = PrivateDir::new("board")?;
                let at = folder.path().join("port");
                (Some(folder), at)
            }
        };
        let equipment = Equipment { emulator: self.emulator.clone(), firmware: self.firmware.clone(), ..Equipment::default() };
        let badness = Badness { lose_one_in: self.lose, garbage_one_in: self.garbage };
        let mut board = Virtual::new(target::facts(MADE_OF)?, &equipment, &at, badness, self.seed)?;
        let (give, mut orders) = mpsc::channel(ORDERS_MAX);
        // Where it is dropped, orders have ended, and the board with them.
        let _give = if nobody_orders() {
            Some(give)
        } else {
            std::thread::Builder::new().name("orders".into()).spawn(move || take_orders(&give))?;
            None
        };
        say::line(at.display());
        let mut said = |what: String| {
            say::line(what);
        };
        let ended = tokio::select! {
            ended = board.run(&mut orders, &mut said) => ended,
            () = interrupted => Ok(()),
        };
        drop(folder);
        Ok(ended?)
    }
}

/// Whether there is nobody to write orders, as for a program in the background: that is no end of them.
fn nobody_orders() -> bool {
    let is_null = |input: rustix::fs::Stat| rustix::fs::FileType::from_raw_mode(input.st_mode).is_char_device();
    !std::io::stdin().is_terminal() && rustix::fs::fstat(std::io::stdin()).is_ok_and(is_null)
}

/// Reads orders until standard input ends, which ends the board.
fn take_orders(give: &Sender<Order>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let order = match line.trim() {
            "unplug" => Order::Unplug,
            "plug" => Order::Plug,
            "reset" => Order::Reset,
            "" => continue,
            other => {
                say::aside(format_args!("harness: `{other}` is no order; write unplug, plug or reset"));
                continue;
            }
        };
        if give.blocking_send(order).is_err() {
            return;
        }
    }
}
