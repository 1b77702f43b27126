//! What a script reads, when its time is up, and whose fault it is.

mod common;

use common::{act, act_and_wait, drive, line, never, none, scenario, snapshot, wait};
use harness::event::{Ended, Event, Source, What};
use harness::script::Script;
use harness::verdict::{Judgement, Verdict};
use proptest::prelude::*;

const S: u64 = 1_000_000;

fn judge(events: &[Event], script: &mut Script<'_>) -> Judgement {
    events.iter().for_each(|event| script.handle(event));
    script.judgement()
}

fn runner(at_us: u64, what: What) -> Event {
    Event { at_us, from: Source::Runner, what }
}

fn began(at_us: u64, step: usize) -> Event {
    runner(at_us, What::StepBegan { step })
}

fn acted(at_us: u64, step: usize) -> Event {
    runner(at_us, What::Acted { step })
}

#[test]
fn a_line_said_while_a_step_acted_is_not_lost() {
    let scenario = scenario(vec![act(), wait(Source::Device, "ready")]);
    let tape = [began(0, 0), line(1, Source::Device, "ready"), acted(2, 0), began(3, 1)];
    assert_eq!(judge(&tape, &mut Script::new(&scenario, 1.0)).verdict, Verdict::Pass);
}

#[test]
fn a_line_said_before_a_step_acted_is_stale() {
    let scenario = scenario(vec![wait(Source::Ca, "asked"), act(), wait(Source::Device, "ready")]);
    let tape = [
        began(0, 0),
        line(1, Source::Device, "ready"),
        line(2, Source::Ca, "asked"),
        began(3, 1),
        acted(4, 1),
        began(5, 2),
        runner(5 + 10 * S, What::DeadlinePassed),
    ];
    let judgement = judge(&tape, &mut Script::new(&scenario, 1.0));
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert_eq!(judgement.findings[0].text, "waited 10 s for a line with ready");
    assert_eq!(judgement.findings[0].place.as_ref().unwrap().step, Some(2));
}

#[test]
fn a_line_that_met_one_step_does_not_meet_the_next() {
    let scenario = scenario(vec![wait(Source::Device, "up"), wait(Source::Device, "up")]);
    let mut script = Script::new(&scenario, 1.0);
    judge(&[began(0, 0), line(1, Source::Device, "up"), began(2, 1)], &mut script);
    assert!(!script.finished());
    judge(&[line(3, Source::Device, "up")], &mut script);
    assert_eq!(script.judgement().verdict, Verdict::Pass);
}

#[test]
fn a_met_expectation_moves_only_the_sources_it_reads() {
    let scenario = scenario(vec![wait(Source::Device, "up"), wait(Source::Ca, "asked")]);
    let tape = [began(0, 0), line(1, Source::Ca, "asked"), line(2, Source::Device, "up"), began(3, 1)];
    assert_eq!(judge(&tape, &mut Script::new(&scenario, 1.0)).verdict, Verdict::Pass);
}

#[test]
fn what_comes_of_an_act_may_come_during_it_and_the_step_ends_with_the_act() {
    let scenario = scenario(vec![act_and_wait(Source::Device, "done")]);
    let mut script = Script::new(&scenario, 1.0);
    judge(&[began(0, 0), line(1, Source::Device, "done")], &mut script);
    assert!(!script.finished());
    judge(&[acted(2, 0)], &mut script);
    assert_eq!(script.judgement().verdict, Verdict::Pass);
}

#[test]
fn nothing_may_come_while_nothing_is_expected() {
    let scenario = scenario(vec![none(Source::Device, "bad")]);
    assert_eq!(drive(&scenario, &[line(S - 1, Source::Device, "bad")]).1.verdict, Verdict::Fail);
    assert_eq!(drive(&scenario, &[line(S, Source::Device, "bad")]).1.verdict, Verdict::Pass);
}

#[test]
fn a_stale_deadline_is_ignored() {
    let scenario = scenario(vec![wait(Source::Device, "up")]);
    let mut script = Script::new(&scenario, 1.0);
    judge(&[began(0, 0), runner(10 * S - 1, What::DeadlinePassed)], &mut script);
    assert!(!script.finished());
    assert_eq!(script.deadline(), Some(10 * S));
    judge(&[runner(10 * S, What::DeadlinePassed)], &mut script);
    assert_eq!(script.judgement().verdict, Verdict::Fail);
}

#[test]
fn a_jump_of_the_device_clock_brings_the_deadline_nearer() {
    let scenario = scenario(vec![wait(Source::Device, "up")]);
    let mut script = Script::new(&scenario, 1.0);
    judge(&[began(0, 0), line(S, Source::Device, "I (7) time: Clock jumped by 8000 ms")], &mut script);
    assert_eq!(script.deadline(), Some(2 * S));
    let judgement = judge(&[line(2 * S, Source::Device, "up")], &mut script);
    assert_eq!(judgement.verdict, Verdict::Fail, "what came too late counted");
}

#[test]
fn a_jump_that_a_step_orders_costs_the_trial_nothing() {
    let scenario = scenario(vec![act_and_wait(Source::Device, "Clock jumped"), wait(Source::Device, "up")]);
    let mut script = Script::new(&scenario, 1.0);
    let jump = line(2, Source::Device, "I (7) time: Clock jumped by 5184000000 ms");
    judge(&[began(0, 0), acted(1, 0), jump, began(3, 1)], &mut script);
    assert_eq!(script.deadline(), Some(3 + 10 * S));
    assert_eq!(judge(&[line(9 * S, Source::Device, "up")], &mut script).verdict, Verdict::Pass);
}

#[test]
fn patience_multiplies_limits_and_nonsense_is_bounded() {
    let scenario = scenario(vec![wait(Source::Device, "up")]);
    for (patience, deadline) in [(1.5, 15 * S), (f32::NAN, 10 * S), (0.0, S / 10), (-1.0, S / 10)] {
        let mut script = Script::new(&scenario, patience);
        judge(&[began(0, 0)], &mut script);
        let near = script.deadline().unwrap().abs_diff(deadline);
        assert!(near < 10, "{patience}: {near} µs off");
    }
}

#[test]
fn the_trial_as_a_whole_has_a_limit() {
    let scenario = scenario((0..10).map(|_| wait(Source::Device, "up")).collect());
    let world: Vec<Event> = (1..).map(|n| line(n * 9 * S, Source::Device, "up")).take(9).collect();
    let judgement = drive(&scenario, &world).1;
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert!(judgement.findings[0].text.contains("the trial took longer"), "{judgement:?}");
}

#[test]
fn an_act_that_never_ends_is_the_testbeds_fault() {
    let mut scenario = scenario(vec![act()]);
    scenario.within = std::time::Duration::from_secs(3_600);
    let mut script = Script::new(&scenario, 1.0);
    judge(&[began(0, 0)], &mut script);
    let deadline = script.deadline().unwrap();
    judge(&[runner(deadline, What::DeadlinePassed)], &mut script);
    assert_eq!(script.judgement().verdict, Verdict::Inconclusive);
}

#[test]
fn whose_fault_it_is() {
    let scenario = never(scenario(vec![wait(Source::Device, "up")]), "forbidden");
    let why = || String::from("gone");
    for (what, from, verdict) in [
        (What::Ended(Ended::Crashed { why: why(), backtrace: vec![] }), Source::Device, Verdict::Fail),
        (What::Ended(Ended::Lost { why: why() }), Source::Device, Verdict::Inconclusive),
        (What::Broke { why: why() }, Source::Runner, Verdict::Inconclusive),
        (What::Interrupted, Source::Runner, Verdict::Inconclusive),
        (What::Line("forbidden".into()), Source::Device, Verdict::Fail),
        (What::Line("token=<redacted:token>".into()), Source::Broker, Verdict::Fail),
        (What::Line("up".into()), Source::Device, Verdict::Pass),
    ] {
        let mut script = Script::new(&scenario, 1.0);
        let judgement = judge(&[began(0, 0), Event { at_us: 1, from, what: what.clone() }], &mut script);
        assert!(script.finished(), "{what:?}");
        assert_eq!(judgement.verdict, verdict, "{what:?}");
        // Whatever comes later changes nothing.
        let later = judge(&[runner(2, What::Interrupted), line(3, Source::Device, "forbidden")], &mut script);
        assert_eq!(later, judgement);
    }
}

#[test]
fn a_device_is_excused_whose_testbed_turns_out_to_have_broken() {
    let scenario = never(scenario(vec![wait(Source::Device, "up")]), "disconnected");
    let broke = || runner(3, What::Broke { why: "the broker ended".into() });
    let mut script = Script::new(&scenario, 1.0);
    assert_eq!(judge(&[began(0, 0), line(1, Source::Device, "disconnected")], &mut script).verdict, Verdict::Fail);
    let judgement = judge(&[broke(), broke()], &mut script);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    let told: Vec<&str> = judgement.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert!(matches!(told[..], [why, symptom] if why.contains("the broker ended") && symptom.contains("disconnected")), "{told:?}");

    let mut script = Script::new(&scenario, 1.0);
    assert_eq!(judge(&[began(0, 0), line(1, Source::Device, "up"), broke()], &mut script).verdict, Verdict::Pass);
}

#[test]
fn what_is_not_seen_behind_a_gap_proves_nothing() {
    let scenario = never(scenario(vec![wait(Source::Device, "up"), snapshot("story")]), "disconnected");
    let gap = || runner(2, What::Gap { why: "line 7".into() });
    let too_late = || runner(20 * S, What::DeadlinePassed);
    let told = |judgement: &Judgement| judgement.findings.iter().map(|finding| finding.text.clone()).collect::<Vec<_>>();
    // Before the trial misses a line, or found out afterwards.
    for tape in [[began(0, 0), gap(), too_late()], [began(0, 0), too_late(), gap()]] {
        let judgement = judge(&tape, &mut Script::new(&scenario, 1.0));
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
        let told = told(&judgement);
        assert!(told[0].contains("line 7") && told[1].contains("waited 10 s") && told.len() == 2, "{told:?}");
    }
    // What was seen was seen.
    let mut script = Script::new(&scenario, 1.0);
    let judgement = judge(&[began(0, 0), gap(), line(3, Source::Device, "disconnected"), gap()], &mut script);
    assert_eq!(judgement.verdict, Verdict::Fail);
    let mut script = Script::new(&scenario, 1.0);
    let judgement = judge(&[began(0, 0), gap(), gap(), line(3, Source::Device, "up"), began(4, 1)], &mut script);
    assert_eq!((judgement.verdict, judgement.warnings.len()), (Verdict::PassWithWarnings, 1));
    assert!(script.stories().is_empty(), "a story with a hole in it is no candidate");
}

#[test]
fn a_device_that_dies_may_still_say_where() {
    let scenario = never(scenario(vec![wait(Source::Device, "up")]), "forbidden");
    let dying = [began(0, 0), line(1, Source::Device, "abort() was called at PC 0x4200"), line(2, Source::Device, "up forbidden")];
    let ended = |ended| Event { at_us: 3, from: Source::Device, what: What::Ended(ended) };
    let mut script = Script::new(&scenario, 1.0);
    judge(&dying, &mut script);
    assert!(!script.finished());
    let crashed = ended(Ended::Crashed { why: "abort".into(), backtrace: vec!["main at main.c:7".into()] });
    let judgement = judge(&[crashed], &mut script);
    assert!(script.finished());
    assert_eq!((judgement.verdict, &judgement.findings[0].near[..]), (Verdict::Fail, &["main at main.c:7".to_owned()][..]));

    for silence in
        [ended(Ended::Lost { why: "gone".into() }), runner(3, What::Interrupted), runner(3, What::Broke { why: "gone".into() })]
    {
        let mut script = Script::new(&scenario, 1.0);
        judge(&dying, &mut script);
        judge(&[silence], &mut script);
        let at_us = script.deadline().unwrap();
        let judgement = judge(&[runner(at_us, What::DeadlinePassed)], &mut script);
        assert!(script.finished());
        assert_eq!(judgement.verdict, Verdict::Fail);
        assert!(judgement.findings[0].text.contains("abort() was called"), "{judgement:?}");
    }
}

#[test]
fn a_device_that_died_while_the_testbed_could_not_act_is_to_blame() {
    let scenario = scenario(vec![act()]);
    let failed = runner(1, What::ActFailed { step: 0, why: "no answer; look".into() });
    let mut script = Script::new(&scenario, 1.0);
    judge(&[began(0, 0), failed.clone()], &mut script);
    assert!(!script.finished());
    let crashed =
        Event { at_us: 2, from: Source::Device, what: What::Ended(Ended::Crashed { why: "panic".into(), backtrace: vec![] }) };
    assert_eq!(judge(&[crashed], &mut script).verdict, Verdict::Fail);

    let mut script = Script::new(&scenario, 1.0);
    judge(&[began(0, 0), failed], &mut script);
    let at_us = script.deadline().unwrap();
    let judgement = judge(&[runner(at_us, What::DeadlinePassed)], &mut script);
    assert!(script.finished());
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
}

#[test]
fn a_failed_wait_tells_what_came_instead() {
    let scenario = scenario(vec![wait(Source::Device, "Certificate stored")]);
    let world = [
        line(1, Source::Ca, "another source"),
        line(2, Source::Device, "I (5) wifi: Access point stopped"),
        line(3, Source::Device, "E (7) cert: CA refused with 401"),
    ];
    let judgement = drive(&scenario, &world).1;
    let finding = &judgement.findings[0];
    assert_eq!(finding.near, ["report `enrollment-refused` came instead: CA refused with 401"]);
    assert_eq!(finding.last.iter().map(|shown| shown.at_us).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_story_is_told_as_far_as_was_waited() {
    let scenario = scenario(vec![wait(Source::Device, "ECDSA"), snapshot("story"), wait(Source::Device, "stopped")]);
    let world = [
        line(1, Source::Device, "I (5) boot: device-core 0.1.0"),
        line(2, Source::Device, "I (6) cert: Made a new ECDSA P-256 key"),
        line(3, Source::Device, "I (7) wifi: Access point stopped"),
    ];
    let (tape, _) = drive(&scenario, &world);
    let mut script = Script::new(&scenario, 1.0);
    assert_eq!(judge(&tape, &mut script).verdict, Verdict::Pass);
    let stories = script.stories();
    assert_eq!(stories.len(), 1);
    assert_eq!(stories[0].text, "device\n  booting: device-core <version>\n  key-made: Made a new ECDSA P-256 key\n");
}

#[test]
fn steps_out_of_turn_are_warnings() {
    let scenario = scenario(vec![wait(Source::Device, "up")]);
    let judgement =
        judge(&[began(0, 0), began(1, 0), acted(2, 7), line(3, Source::Device, "up")], &mut Script::new(&scenario, 1.0));
    assert_eq!((judgement.verdict, judgement.warnings.len()), (Verdict::PassWithWarnings, 2));
}

const TEXTS: [&str; 4] = ["one", "two", "three", "I (7) time: Clock jumped by 900 ms"];

proptest! {
    /// However the sources interleave, the judgement is the same, as long as nobody acts in between.
    #[test]
    fn interleaving_does_not_matter(
        said in proptest::collection::vec((0..2usize, 0..3usize), 0..16),
        order in proptest::collection::vec(any::<bool>(), 16),
        waits in proptest::collection::vec((0..2usize, 0..3usize), 1..6),
    ) {
        let sources = [Source::Device, Source::Ca];
        let steps = || waits.iter().map(|(from, text)| wait(sources[*from], TEXTS[*text])).collect();
        let mut queues = [0, 1].map(|of| said.iter().filter(move |(from, _)| *from == of).map(|(_, text)| *text));
        let mut other: Vec<(usize, usize)> = Vec::new();
        for first in order.into_iter().map(usize::from) {
            for from in [first, 1 - first] {
                other.extend(queues[from].next().map(|text| (from, text)));
            }
        }
        let judged = |said: &[(usize, usize)]| {
            let world: Vec<Event> =
                said.iter().enumerate().map(|(at, (from, text))| line(at as u64 + 1, sources[*from], TEXTS[*text])).collect();
            let judgement = drive(&scenario(steps()), &world).1;
            let places: Vec<_> = judgement.findings.into_iter().map(|finding| (finding.text, finding.place)).collect();
            (judgement.verdict, places)
        };
        prop_assert_eq!(judged(&said), judged(&other));
    }

    /// Nothing that can be on a tape makes a script panic, and its deadline never leads nowhere.
    #[test]
    fn any_tape_is_judged(
        said in proptest::collection::vec((0..4usize, 0..8usize, 0..20 * S), 0..24),
        kinds in proptest::collection::vec((0..4usize, 0..3usize), 0..5),
    ) {
        let steps = kinds.iter().map(|(kind, text)| match kind {
            0 => act(),
            1 => act_and_wait(Source::Device, TEXTS[*text]),
            2 => none(Source::Device, TEXTS[*text]),
            _ => wait(Source::Ca, TEXTS[*text]),
        });
        let scenario = scenario(steps.collect());
        let mut script = Script::new(&scenario, 1.0);
        let mut at_us = 0;
        for (text, kind, after) in said {
            at_us += after;
            let what = match kind {
                0 => What::StepBegan { step: text },
                1 => What::Acted { step: text },
                2 => What::ActFailed { step: text, why: "x".into() },
                3 => What::DeadlinePassed,
                _ => What::Line(TEXTS[text].into()),
            };
            let from = if kind < 4 { Source::Runner } else { [Source::Device, Source::Ca][kind % 2] };
            script.handle(&Event { at_us, from, what });
            prop_assert_eq!(script.finished(), script.deadline().is_none());
        }
        let mut asked = 0;
        while let Some(deadline) = script.deadline() {
            at_us = at_us.max(deadline);
            script.handle(&runner(at_us, What::DeadlinePassed));
            asked += 1;
            prop_assert!(asked <= scenario.steps.len() + 2);
        }
    }
}
