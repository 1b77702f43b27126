//! The firmware on an ESP32-C3: its radio, or simulated surroundings and a network through the console when its flash says so.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "a board is where registers, interrupts and C are")]

extern crate alloc;

mod fault;
mod flash;
mod heap;
mod port;
mod power;
mod radio;
mod uart;
mod watchdog;
mod wifi;

use crate::wifi::Around;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use app::{Air, serial};
use core::fmt::Write as _;
use device_core::surroundings::Surroundings;
use embassy_executor::{SpawnError, SpawnToken, Spawner};
use embassy_time::{Duration, Instant, Timer};
use esp_hal::clock::CpuClock;
use esp_hal::rng::{Trng, TrngSource};
use esp_hal::timer::systimer::SystemTimer;
use rand_core::Rng as _;
use uart::LastWords;

esp_bootloader_esp_idf::esp_app_desc!();

/// How many sockets may be open at one time, those of DHCP and DNS among them.
const SOCKETS: usize = 16;

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    let chip = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    heap::start();
    let timer = SystemTimer::new(chip.SYSTIMER);
    esp_rtos::start(timer.alarm0, chip.FROM_CPU_INTR0);
    let Ok((receiver, sender)) = uart::start(chip.UART0, chip.GPIO20, chip.GPIO21) else {
        unreachable!("the baud rate is one that the port has");
    };
    say('I', &format!("started after {}", power::why_started()));
    spawner.spawn(once(watchdog::feed(watchdog::start(timer.alarm1, chip.RTC_TIMER))));

    let slowness = slowness();
    if slowness > 1 {
        say('W', &format!("the processor is {slowness} times slower than a chip's: what takes arithmetic is given more time"));
    }

    let flash = match flash::start(chip.FLASH) {
        Ok(flash) => flash,
        Err(why) => refuse(why).await,
    };
    let simulated = surroundings();
    // The chip's random numbers are noise: of the radio when it is on, else of the analog converter.
    let controller = match &simulated {
        None => match radio::power_on(chip.WIFI) {
            Ok(controller) => Some(controller),
            Err(why) => refuse(&format!("the radio does not start: {why}")).await,
        },
        Some(_) => {
            core::mem::forget(TrngSource::new(chip.RNG, chip.ADC1));
            None
        }
    };
    let Ok(mut rng) = Trng::try_new() else { unreachable!("its source was started") };

    let encoding = simulated.as_ref().and_then(|around| serial::encoding(around.link));
    let (stack, console_in, console_out) = if let Some(encoding) = encoding {
        let shared = serial::share::<SOCKETS, _, _>(receiver, sender, encoding, rng.next_u64());
        spawner.spawn(once(run_port(shared.port)));
        (shared.stack, shared.console_in, shared.console_out)
    } else {
        if simulated.is_some() {
            say('W', "no network: the surroundings do not say `link console`, and the radio is off where the air is simulated");
        }
        let resources = Box::leak(Box::new(embassy_net::StackResources::<SOCKETS>::new()));
        let (stack, runner) = embassy_net::new(port::Port::new(), embassy_net::Config::default(), resources, rng.next_u64());
        spawner.spawn(once(run_radio(runner)));
        (stack, serial::ConsoleIn::Alone(receiver), serial::ConsoleOut::Alone(sender))
    };

    let wifi = match controller {
        Some(controller) => Around::Radio(radio::start(spawner, controller, stack)),
        None => Around::Air(Air::default()),
    };
    app::run(app::Parts {
        stack,
        flash,
        rng,
        console_in,
        console_out,
        ap_suffix: if simulated.is_none() { suffix() } else { String::new() },
        wifi,
        simulated,
        slowness,
        keep_surroundings: Box::new(|text| flash::keep_surroundings(text.unwrap_or_default()).map_err(String::from)),
        reboot: power::reboot,
        power_cut: power::cut,
        heap: heap::state,
    })
    .await
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
async fn run_radio(mut runner: embassy_net::Runner<'static, port::Port>) -> ! {
    runner.run().await
}

/// Says why the board cannot run, for ever: whoever opens the console hears it.
async fn refuse(why: &str) -> ! {
    loop {
        say('E', why);
        Timer::after(Duration::from_secs(5)).await;
    }
}

/// How many times slower than a chip's the processor is: a simulator may run it so, while the time goes on as in the world.
fn slowness() -> u32 {
    /// What a chip of 160 MHz does in half of `CHIP_TAKES`.
    const ROUNDS: u32 = 100_000;
    const CHIP_TAKES: Duration = Duration::from_millis(8);
    const SLOWNESS_MAX: u64 = 20;
    let start = Instant::now();
    for round in 0..ROUNDS {
        core::hint::black_box(round);
    }
    let slowness = (start.elapsed().as_micros() / CHIP_TAKES.as_micros()).clamp(1, SLOWNESS_MAX);
    slowness as u32
}

/// What tells the board's access point from another's: the end of its address.
fn suffix() -> String {
    let mac = esp_hal::efuse::base_mac_address();
    let &[.., high, low] = mac.as_bytes() else { return String::new() };
    format!("-{high:02X}{low:02X}")
}

/// Says a line of the board's own, before the device says its first.
fn say(level: char, text: &str) {
    let _ = writeln!(LastWords, "{level} ({}) board: {text}", Instant::now().as_millis());
}

/// What the flash says is around the board; `None`: the world.
fn surroundings() -> Option<Surroundings> {
    let text = flash::surroundings().map_err(String::from).and_then(|text| match text.trim() {
        "" => Ok(None),
        _ => Surroundings::parse(&text).map(Some).map_err(|e| format!("{e}")),
    });
    text.unwrap_or_else(|why| {
        say('E', &format!("the surroundings in flash are passed over: {why}"));
        None
    })
}
