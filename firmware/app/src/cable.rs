//! Two network stacks and a cable between them, for tests.

use alloc::boxed::Box;
use core::cell::Cell;
use core::time::Duration;
use embassy_futures::block_on;
use embassy_futures::join::join4;
use embassy_futures::select::{Either, select};
use embassy_futures::yield_now;
use embassy_net::{Config, Stack, StackResources};
use embassy_net_driver::{HardwareAddress, LinkState};
use embassy_net_driver_channel as channel;
use embassy_time::with_timeout;

/// The largest frame, in bytes.
const FRAME: usize = 1514;
/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(10);

type Card = channel::Device<'static, FRAME>;

/// Whether what the first stack sends arrives; what does not waits.
pub(crate) type Valve = &'static Cell<bool>;

/// Runs a test on two stacks with these configurations, the device's and a guest's.
pub(crate) fn connect<F: Future>(
    device: Config,
    guest: Config,
    test: impl FnOnce(Stack<'static>, Stack<'static>, Valve) -> F,
) -> F::Output {
    let open: Valve = Box::leak(Box::new(Cell::new(true)));
    let (here, here_rx, here_tx) = card(1);
    let (there, there_rx, there_tx) = card(2);
    let (device, mut device_runner) = stack(here, device);
    let (guest, mut guest_runner) = stack(there, guest);
    let cable = (carry(here_tx, there_rx, Some(open)), carry(there_tx, here_rx, None));
    let network = join4(device_runner.run(), guest_runner.run(), cable.0, cable.1);
    let limit = embassy_time::Duration::from_millis(LIMIT.as_millis() as u64);
    match block_on(with_timeout(limit, select(network, test(device, guest, open)))) {
        Ok(Either::Second(done)) => done,
        _ => panic!("not done within {} s", LIMIT.as_secs()),
    }
}

fn card(number: u8) -> (Card, channel::RxRunner<'static, FRAME>, channel::TxRunner<'static, FRAME>) {
    let state = Box::leak(Box::new(channel::State::<FRAME, 4, 4>::new()));
    let (runner, card) = channel::new(state, HardwareAddress::Ethernet([2, 0, 0, 0, 0, number]));
    let (state, rx, tx) = runner.split();
    state.set_link_state(LinkState::Up);
    (card, rx, tx)
}

fn stack(card: Card, config: Config) -> (Stack<'static>, embassy_net::Runner<'static, Card>) {
    embassy_net::new(card, config, Box::leak(Box::new(StackResources::<8>::new())), 1)
}

async fn carry(mut from: channel::TxRunner<'_, FRAME>, mut to: channel::RxRunner<'_, FRAME>, valve: Option<Valve>) -> ! {
    loop {
        let frame = from.tx_buf().await.to_vec();
        from.tx_done();
        while valve.is_some_and(|open| !open.get()) {
            yield_now().await;
        }
        to.rx_buf().await[..frame.len()].copy_from_slice(&frame);
        to.rx_done(frame.len());
    }
}
