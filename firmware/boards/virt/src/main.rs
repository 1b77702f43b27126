//! The firmware on QEMU's stock `virt` machine: real TCP/IP, TLS and storage, on a board that everybody has.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "a board is where registers, interrupts and C are")]

extern crate alloc;

mod clock;
mod disk;
mod fault;
mod heap;
mod libc;
mod machine;
mod net;
mod plic;
mod power;
mod provoke;
mod random;
mod surroundings;
mod trap;
mod uart;
mod virtio;

use app::serial;
use embassy_executor::{SpawnError, SpawnToken, Spawner};
use embassy_time::{Duration, Timer};
use rand_core::Rng as _;
use static_cell::StaticCell;
use virtio_drivers::transport::DeviceType;

/// How many sockets may be open at one time, those of DHCP and DNS among them.
const SOCKETS: usize = 16;
/// How often the watchdog hears that tasks are being run.
const FEED_EVERY: Duration = Duration::from_millis(500);

/// Where the processor begins.
#[embassy_executor::main(entry = "riscv_rt::entry")]
async fn main(spawner: Spawner) {
    heap::start();
    fault::start();
    trap::start();
    clock::start();
    let (receiver, sender) = uart::start();
    let around = surroundings::read();

    let flash = find(
        DeviceType::Block,
        disk::Flash::start,
        "-drive if=none,id=nvs,format=raw,file=FILE -device virtio-blk-device,drive=nvs (FILE: 128 KiB, 0xFF when blank)",
    );
    let mut rng = find(DeviceType::EntropySource, random::Random::start, "-device virtio-rng-device");

    let (stack, console_in, console_out) = if let Some(encoding) = serial::encoding(around.link) {
        let shared = serial::share::<SOCKETS, _, _>(receiver, sender, encoding, rng.next_u64());
        spawner.spawn(once(run_port(shared.port)));
        (shared.stack, shared.console_in, shared.console_out)
    } else {
        let card = find(DeviceType::Network, net::Card::start, "-netdev user,id=n0 -device virtio-net-device,netdev=n0");
        static RESOURCES: StaticCell<embassy_net::StackResources<SOCKETS>> = StaticCell::new();
        let resources = RESOURCES.init(embassy_net::StackResources::new());
        let config = embassy_net::Config::dhcpv4(embassy_net::DhcpConfig::default());
        let (stack, runner) = embassy_net::new(card, config, resources, rng.next_u64());
        spawner.spawn(once(run_card(runner)));
        (stack, serial::ConsoleIn::Alone(receiver), serial::ConsoleOut::Alone(sender))
    };
    spawner.spawn(once(feed_watchdog()));
    spawner.spawn(once(provoke::as_told()));

    app::run(app::Parts {
        stack,
        flash,
        rng,
        console_in,
        console_out,
        wifi: app::Air::default(),
        ap_suffix: alloc::string::String::new(),
        simulated: Some(around),
        slowness: 1,
        keep_surroundings: alloc::boxed::Box::new(surroundings::keep),
        reboot: power::reboot,
        power_cut: power::cut,
        heap: heap::state,
    })
    .await
}

/// Starts the first device of a kind; without it there is no board, and whoever started QEMU is told what to write.
fn find<T>(kind: DeviceType, start: fn(virtio::Window) -> Result<T, virtio_drivers::Error>, option: &str) -> T {
    let why = match virtio::find(kind).map(start) {
        Some(Ok(device)) => return device,
        Some(Err(why)) => why,
        None => virtio_drivers::Error::NotReady,
    };
    power::refuse(format_args!("no usable {kind:?} device: {why}. Start QEMU with -global virtio-mmio.force-legacy=false {option}"))
}

/// A task that is made once, which its pool has room for.
fn once<S>(made: Result<SpawnToken<S>, SpawnError>) -> SpawnToken<S> {
    let Ok(task) = made else { unreachable!("each task is made once") };
    task
}

/// The network through the console.
#[embassy_executor::task]
async fn run_port(port: serial::Port<uart::Receiver, uart::Sender>) -> ! {
    port.run().await
}

#[embassy_executor::task]
async fn run_card(mut runner: embassy_net::Runner<'static, net::Card>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn feed_watchdog() -> ! {
    loop {
        clock::feed();
        Timer::after(FEED_EVERY).await;
    }
}
