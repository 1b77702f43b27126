//! Seeded random walks: whatever happens, the invariants of `world` hold after each step, and once nothing fails the session comes up.
//!
//! A failure prints the steps that lead to it, shortened, and the seed. `WALK_SEED=<seed> cargo test -p device-core --test walk` walks the
//! same walks again; `WALK_CASES=100000` walks more of them.

mod world;

use device_core::input::{Input, NetFailure, NetFailureKind};
use device_core::time::UnixTime;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use world::{DEVICE_ID, World};

/// Once nothing fails, the session must be up within this device time: the longest back-off, an acknowledgement's limit and some air.
const HEALED_WITHIN_MS: u64 = 10 * 60 * 1000;
/// Walks of one test run.
const CASES: u32 = 400;

/// What can happen to a device.
#[derive(Clone, Debug)]
enum Step {
    /// The oldest wish is answered honestly.
    Answer,
    /// Many are.
    Answers(u8),
    /// It is answered badly.
    AnswerBadly(usize),
    /// The broker's next answer never comes.
    Withhold,
    /// Time passes, by milliseconds.
    Pass(u32),
    /// Time passes up to the deadline.
    Deadline,
    /// The clock jumps, by days.
    Jump(u8),
    /// The power goes and comes; a write under way happened or not.
    PowerCycle {
        written: bool,
    },
    Provision {
        console: bool,
        other_device: bool,
    },
    Http(usize),
    Console(usize),
    BrokerCloses,
    BrokerForgets,
    BrokerSays(Vec<u8>),
    WifiLost,
    /// An answer that nobody asked for.
    Stray(usize),
}

const LINES: [&str; 15] = [
    "telemetry",
    "telemetry",
    "telemetry",
    "set TELEMETRY_PERIOD_MS 500",
    "set MQTT_KEEPALIVE 30",
    "set MQTT_USER somebody",
    "set MQTT_USER",
    "save",
    "save",
    "status",
    "show",
    "surroundings lines numbered",
    "reboot",
    "factory-reset",
    "nonsense \u{1b}[31m",
];

/// The reference model knows only the device's seed and protocol version (5?): what must hold is checked by the world itself.
struct Walk;

impl ReferenceStateMachine for Walk {
    type State = (u64, bool);
    type Transition = Step;

    fn init_state() -> BoxedStrategy<(u64, bool)> {
        any::<(u64, bool)>().boxed()
    }

    fn transitions(_: &(u64, bool)) -> BoxedStrategy<Step> {
        prop_oneof![
            10 => Just(Step::Answer),
            4 => (1u8..20).prop_map(Step::Answers),
            5 => any::<usize>().prop_map(Step::AnswerBadly),
            1 => Just(Step::Withhold),
            3 => (0u32..200_000).prop_map(Step::Pass),
            4 => Just(Step::Deadline),
            1 => (0u8..100).prop_map(Step::Jump),
            2 => any::<bool>().prop_map(|written| Step::PowerCycle { written }),
            3 => (any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(console, other_device)| Step::Provision { console, other_device }),
            1 => any::<usize>().prop_map(Step::Http),
            4 => any::<usize>().prop_map(Step::Console),
            1 => Just(Step::BrokerCloses),
            1 => Just(Step::BrokerForgets),
            1 => prop::collection::vec(any::<u8>(), 1..12).prop_map(Step::BrokerSays),
            1 => Just(Step::WifiLost),
            1 => any::<usize>().prop_map(Step::Stray),
        ]
        .boxed()
    }

    fn apply(state: (u64, bool), _: &Step) -> (u64, bool) {
        state
    }
}

fn step(world: &mut World, step: &Step) {
    match step {
        Step::Answer => {
            world.answer();
        }
        Step::Answers(n) => {
            for _ in 0..*n {
                world.answer();
            }
        }
        Step::AnswerBadly(way) => world.answer_badly(*way),
        Step::Withhold => world.withhold(),
        Step::Pass(ms) => world.pass((*ms).into()),
        Step::Deadline => {
            world.pass_to_deadline();
        }
        Step::Jump(days) => world.console(&format!("clock jump {}", u64::from(*days) * 86_400_000)),
        Step::PowerCycle { written } => world.power_cycle(*written),
        Step::Provision { console, other_device } => {
            let body = World::credentials(if *other_device { "device_0071" } else { DEVICE_ID });
            if *console { world.console(&format!("provision {body}")) } else { world.post_provision(&body) }
        }
        Step::Http(n) => {
            world.get(["/scan", "/status", "/api/mqtt/stats", "/provision", "/nothing"][n % 5]);
        }
        Step::Console(n) => world.console(LINES[n % LINES.len()]),
        Step::BrokerCloses => world.close(),
        Step::BrokerForgets => world.forget_session(),
        Step::BrokerSays(bytes) => world.broker_says(bytes),
        Step::WifiLost => world.lose_wifi(),
        Step::Stray(n) => stray(world, *n),
    }
}

/// Answers that a confused shell might give; only those that nothing waits for.
fn stray(world: &mut World, n: usize) {
    let failure = NetFailure { kind: NetFailureKind::Reset, text: "stray".into() };
    let waits = |word: &str| world.owed.iter().any(|o| o.word().starts_with(word));
    match n % 6 {
        0 if !waits("store") => world.tell(Input::Stored(Ok(()))),
        1 if !waits("sign-csr") && !waits("renew") => world.tell(Input::CaReplied { status: 200, body: b"{}" }),
        2 if !waits("sign-csr") && !waits("renew") => world.tell(Input::CaFailed(&failure)),
        3 if !waits("connect") => world.tell(Input::ConnectFailed(&failure)),
        4 if !waits("join") => world.tell(Input::WifiUp { ip: [10, 0, 0, 1] }),
        _ => world.tell(Input::Tick),
    }
}

fn walk(seed: u64, v5: bool, steps: &[Step], taken: impl Fn()) {
    let mut world = World::new(seed, v5, settings(seed));
    for one in steps {
        taken();
        step(&mut world, one);
    }
    // A device id that the CA of this walk does not issue for is a mistake of the user, which only a reset mends.
    if world.durable.credentials.as_ref().is_some_and(|c| c.device_id != DEVICE_ID) || provisions_another(steps) {
        while world.answer() {}
        world.console("factory-reset");
        while world.answer() {}
    }
    assert!(
        world.heals_within(HEALED_WITHIN_MS),
        "no session in a world where nothing fails: {} at {:?}, owed {:?}, date {:?}",
        world.device.state(),
        world.now,
        world.owed.iter().map(world::Owed::word).collect::<Vec<_>>(),
        world.device.unix_time(world.now).unwrap_or(UnixTime(0)),
    );
    while world.answer() {}
    world.console("telemetry");
    assert!(world.delivers_within(HEALED_WITHIN_MS), "not everything is delivered in the end");
}

/// What differs between devices: the CA's anchors are configured or the system's, and some are insecure towards the broker.
fn settings(seed: u64) -> &'static [(&'static str, &'static str)] {
    match seed % 3 {
        0 => &[],
        1 => &[("BACKEND_CA", "")],
        _ => &[("MQTT_TLS_INSECURE", "true")],
    }
}

fn provisions_another(steps: &[Step]) -> bool {
    steps.iter().any(|s| matches!(s, Step::Provision { other_device: true, .. }))
}

#[test]
fn whatever_happens_the_invariants_hold() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = number("WALK_SEED").unwrap_or(20_260_101);
    let cases = number("WALK_CASES").map_or(CASES, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    install_silence();
    let outcome = runner.run(&Walk::sequential_strategy(1..80), |((s, v5), steps, taken)| {
        // The shortener wants to know how many steps were taken before the failure.
        let count = || taken.iter().for_each(|t| _ = t.fetch_add(1, Ordering::SeqCst));
        SILENT.set(true);
        let end = catch_unwind(AssertUnwindSafe(|| walk(s, v5, &steps, count)));
        SILENT.set(false);
        end.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string()));
            TestCaseError::fail(text.unwrap_or_else(|| "panic".into()))
        })
    });
    if let Err(TestError::Fail(why, ((s, v5), steps, _))) = outcome {
        panic!(
            "{why}\nafter {steps:#?}\nof a device with seed {s}, v5: {v5}\nrepeat: WALK_SEED={seed} WALK_CASES={cases} cargo test -p device-core --test walk"
        );
    }
    assert!(outcome.is_ok(), "{outcome:?}");
}

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// While a failure is shortened it happens hundreds of times; only the last word is of use.
fn install_silence() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !SILENT.get() {
            loud(info);
        }
    }));
}

/// The walks reach what they are meant to test.
#[test]
fn walks_go_far() {
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let ((seed, v5), steps, _) = Walk::sequential_strategy(1..80).new_tree(&mut runner).expect("a walk").current();
        let mut world = World::new(seed, v5, &[]);
        for one in &steps {
            step(&mut world, one);
            seen.extend(world.reports.drain(..).map(|r| r.word().name));
        }
    }
    for name in [
        "mqtt-connected",
        "delivered",
        "queue-dropped",
        "renewal-stored",
        "certificate-refused",
        "enrollment-refused",
        "factory-reset",
    ] {
        assert!(seen.contains(name), "{name} never happens: {seen:?}");
    }
}
