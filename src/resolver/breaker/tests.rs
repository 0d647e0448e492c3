use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const POLICY: BreakerSettings = BreakerSettings {
    max_fails: 3,
    first: 1000,
    probe: 5000,
};

/// The settings that nginx's defaults give.
const USUAL: BreakerSettings = BreakerSettings {
    max_fails: 5,
    ..POLICY
};

fn breaker(words: &SharedAtomics) -> Breaker<'_> {
    Breaker {
        words,
        policy: POLICY,
    }
}

fn admit(breaker: &Breaker<'_>, now: u64) -> Admission {
    breaker.admit(Trust::Stranger, now)
}

fn cut_off(breaker: &Breaker<'_>, now: u64) -> Option<Opened> {
    breaker.failed(Evidence::Connection, now, 0)
}

#[test]
fn it_opens_after_as_many_missing_connections_in_a_row_as_are_set() {
    let words = SharedAtomics::default();
    let breaker = breaker(&words);
    assert_eq!(cut_off(&breaker, 10), None);
    assert_eq!(cut_off(&breaker, 11), None);
    assert!(!breaker.succeeded());
    assert_eq!(cut_off(&breaker, 12), None);
    assert_eq!(cut_off(&breaker, 13), None);
    assert_eq!(admit(&breaker, 14), Admission::Go);
    let opened = cut_off(&breaker, 14).unwrap();
    assert_eq!((opened.span, opened.failures, opened.news), (1000, 3, true));
    // Calls that were in progress end.
    assert_eq!(cut_off(&breaker, 15), None);
    assert_eq!(admit(&breaker, 1013), Admission::Wait(1));
    assert_eq!(breaker.refuses(Trust::Known, 15), Some(999));
}

#[test]
fn one_probe_goes_out_at_a_time_and_its_success_lets_all_go() {
    let words = SharedAtomics::default();
    let breaker = breaker(&words);
    (0..3).for_each(|_| {
        cut_off(&breaker, 0);
    });
    assert_eq!(breaker.refuses(Trust::Stranger, 1000), None, "one is due");
    assert_eq!(admit(&breaker, 1000), Admission::Go);
    assert_eq!(admit(&breaker, 1000), Admission::Wait(1000));
    assert_eq!(breaker.refuses(Trust::Stranger, 1001), Some(1000));
    assert!(breaker.succeeded());
    assert!(!breaker.succeeded());
    assert_eq!(admit(&breaker, 1002), Admission::Go);
    assert_eq!(admit(&breaker, 1002), Admission::Go);
}

#[test]
fn a_probe_without_connection_doubles_the_time_up_to_a_minute() {
    let words = SharedAtomics::default();
    let breaker = breaker(&words);
    (0..3).for_each(|_| {
        cut_off(&breaker, 0);
    });
    let mut now = 1000;
    let mut spans = Vec::new();
    for _ in 0..8 {
        assert_eq!(admit(&breaker, now), Admission::Go);
        let opened = cut_off(&breaker, now).unwrap();
        assert!(!opened.news);
        spans.push(opened.span);
        now += opened.span;
    }
    assert_eq!(
        spans,
        [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]
    );
    assert!(breaker.succeeded());
    (0..2).for_each(|_| assert_eq!(cut_off(&breaker, now), None));
    assert_eq!(cut_off(&breaker, now).unwrap().span, 1000, "as at first");
}

#[test]
fn a_probe_whose_process_died_is_followed_by_another() {
    let words = SharedAtomics::default();
    let breaker = breaker(&words);
    (0..3).for_each(|_| {
        cut_off(&breaker, 0);
    });
    assert_eq!(admit(&breaker, 2000), Admission::Go);
    assert_eq!(admit(&breaker, 6999), Admission::Wait(1));
    assert_eq!(admit(&breaker, 7000), Admission::Go);
    breaker.withdrawn();
    assert_eq!(admit(&breaker, 7001), Admission::Go);
}

#[test]
fn a_probe_that_gets_through_and_fails_lets_others_try() {
    let words = SharedAtomics::default();
    let breaker = breaker(&words);
    (0..3).for_each(|_| {
        cut_off(&breaker, 0);
    });
    // Twice as long by now.
    assert_eq!(admit(&breaker, 1000), Admission::Go);
    cut_off(&breaker, 1000);
    assert_eq!(admit(&breaker, 3000), Admission::Go);
    let opened = breaker.failed(Evidence::Stranger, 3000, 0).unwrap();
    assert_eq!((opened.span, opened.probes, opened.news), (1000, 60, false));
    assert_eq!(admit(&breaker, 3001), Admission::Go);
    assert!(breaker.succeeded());
}

#[test]
fn strangers_tokens_that_fail_open_it_only_if_many_do_and_nothing_succeeds() {
    let words = SharedAtomics::default();
    let breaker = breaker(&words);
    for now in 0..59 {
        assert_eq!(breaker.failed(Evidence::Stranger, now, 0), None);
    }
    assert!(!breaker.succeeded());
    // That was seen: five times as many are needed now.
    for now in 0..294 {
        assert_eq!(breaker.failed(Evidence::Stranger, now, 0), None, "{now}");
        assert_eq!(admit(&breaker, now), Admission::Go);
    }
    let opened = breaker.failed(Evidence::Stranger, 294, 0).unwrap();
    assert_eq!(
        (opened.failures, opened.probes, opened.span, opened.news),
        (295, 60, 1000, true)
    );
}

#[test]
fn tokens_that_were_active_open_it_sooner() {
    let words = SharedAtomics::default();
    let breaker = breaker(&words);
    for now in 0..11 {
        assert_eq!(breaker.failed(Evidence::Known, now, 0), None);
    }
    assert!(breaker.failed(Evidence::Known, 11, 0).is_some());
}

#[test]
fn what_an_answer_has_ended_is_forgotten_as_more_answers_come() {
    let mut record = Record {
        run: 300,
        ..Record::default()
    };
    let mut answers = 0;
    while POLICY.needed(record.answered().ended) > LEAST * 5 {
        record = record.answered();
        answers += 1;
    }
    assert!((40..100).contains(&answers), "{answers}");
}

#[test]
fn in_doubt_calls_are_spread_and_known_tokens_have_their_own() {
    let words = SharedAtomics::default();
    let breaker = breaker(&words);
    for _ in 0..60 {
        breaker.failed(Evidence::Stranger, 0, 0);
    }
    for trust in [Trust::Stranger, Trust::Known] {
        let at_once = (0..100).take_while(|_| breaker.admit(trust, 1) == Admission::Go);
        assert_eq!(at_once.count(), 30, "half of 20 times max_fails");
        let Admission::Wait(after) = breaker.admit(trust, 1) else {
            panic!("that was all");
        };
        assert_eq!(breaker.refuses(trust, 1), Some(after));
        assert!((1..=17).contains(&after), "{after}");
        assert_eq!(breaker.refuses(trust, 1 + after), None);
        assert_eq!(breaker.admit(trust, 1 + after), Admission::Go);
        // A call that is given up makes no room.
        breaker.withdrawn();
        assert!(matches!(
            breaker.admit(trust, 1 + after),
            Admission::Wait(_)
        ));
    }
}

#[test]
fn a_server_in_doubt_to_which_there_is_no_connection_any_more_is_cut_off() {
    let words = SharedAtomics::default();
    let breaker = breaker(&words);
    for _ in 0..60 {
        breaker.failed(Evidence::Stranger, 0, 0);
    }
    assert_eq!(cut_off(&breaker, 1), None);
    assert_eq!(cut_off(&breaker, 2), None);
    let opened = cut_off(&breaker, 3).unwrap();
    assert_eq!((opened.span, opened.probes, opened.news), (1000, 0, false));
    assert_eq!(admit(&breaker, 1002), Admission::Wait(1));
}

#[test]
fn spans_are_jittered_by_a_quarter_and_never_nothing() {
    for jitter in [0, 1, 17, u64::MAX] {
        let span = span(1000, 2, jitter);
        assert!((3000..=4000).contains(&span), "{span}");
    }
    assert_eq!(span(1, 0, 3), 1);
    assert_eq!(span(120_000, 5, 0), 120_000, "what is set is kept");
}

#[test]
fn with_max_fails_0_it_never_opens() {
    let words = SharedAtomics::default();
    let breaker = Breaker {
        words: &words,
        policy: BreakerSettings {
            max_fails: 0,
            ..POLICY
        },
    };
    for evidence in [Evidence::Connection, Evidence::Known, Evidence::Stranger] {
        (0..10_000).for_each(|_| assert_eq!(breaker.failed(evidence, 0, 0), None));
    }
    assert_eq!(admit(&breaker, 1), Admission::Go);
}

/// An authorization server that fails on strangers' tokens after a while, and answers good ones.
struct Scene {
    words: SharedAtomics,
    policy: BreakerSettings,
    /// The duration of a failure.
    failing_takes: u64,
    failing: VecDeque<u64>,
    good: u64,
    passed: u64,
    calls: u64,
}

impl Scene {
    fn new(failing_takes: u64) -> Self {
        Scene {
            words: SharedAtomics::default(),
            policy: USUAL,
            failing_takes,
            failing: VecDeque::new(),
            good: 0,
            passed: 0,
            calls: 0,
        }
    }

    fn breaker(&self) -> Breaker<'_> {
        Breaker {
            words: &self.words,
            policy: self.policy,
        }
    }

    fn pass_time(&mut self, now: u64) {
        while self.failing.front().is_some_and(|&at| at <= now) {
            self.failing.pop_front();
            self.breaker().failed(Evidence::Stranger, now, now * 7919);
        }
    }

    fn junk(&mut self, now: u64) {
        self.pass_time(now);
        if admit(&self.breaker(), now) == Admission::Go {
            self.calls += 1;
            self.failing.push_back(now + self.failing_takes);
            self.pass_time(now);
        }
    }

    fn good(&mut self, now: u64) {
        self.pass_time(now);
        self.good += 1;
        if admit(&self.breaker(), now) == Admission::Go {
            self.passed += 1;
            self.calls += 1;
            self.breaker().succeeded();
        }
    }

    /// The share of the good ones that passed.
    fn share(&self) -> f64 {
        self.passed as f64 / self.good as f64
    }
}

/// Pseudorandom numbers.
struct Chance(u64);

impl Chance {
    /// The time until the next of events that happen at this rate per second, in milliseconds.
    fn gap(&mut self, rate: f64) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let part = ((self.0 >> 33) as f64 + 1.0) / (1u64 << 31) as f64;
        -part.ln() * 1000.0 / rate
    }
}

/// Sends this many of each per second, at random times, for this many seconds.
fn mixed(scene: &mut Scene, junk: f64, good: f64, from: u64, seconds: u64, seed: u64) {
    let mut chance = Chance(seed);
    let end = (from + 1000 * seconds) as f64;
    let mut next_junk = from as f64 + chance.gap(junk);
    let mut next_good = from as f64 + chance.gap(good);
    while next_junk.min(next_good) < end {
        if next_junk < next_good {
            scene.junk(next_junk as u64);
            next_junk += chance.gap(junk);
        } else {
            scene.good(next_good as u64);
            next_good += chance.gap(good);
        }
    }
}

#[test]
fn junk_leaves_good_tokens_alone_at_all_rates() {
    // A worker's half of 100 and 20 a second; and up to a hundred for each good one, from busy to thin.
    for (junk, good, seconds) in [
        (50.0, 10.0, 60),
        (100.0, 20.0, 60),
        (1000.0, 20.0, 600),
        (100.0, 1.0, 2000),
        (20.0, 0.2, 10_000),
        (3.0, 0.03, 50_000),
    ] {
        for failing_takes in [0, 20, 5000] {
            if junk * failing_takes as f64 / 1000.0 > 256.0 {
                // More than max_concurrent has room for.
                continue;
            }
            let (mut passed, mut good_ones) = (0, 0);
            for seed in 1..11 {
                let mut scene = Scene::new(failing_takes);
                mixed(&mut scene, junk, good, 0, seconds, seed);
                // A gateway that has just been started may take the first row for a failure of the server.
                assert!(
                    scene.share() >= 0.95,
                    "{junk}:{good}, {failing_takes} ms, {seed}"
                );
                passed += scene.passed;
                good_ones += scene.good;
            }
            let share = passed as f64 / good_ones as f64;
            assert!(share >= 0.99, "{junk}:{good}, {failing_takes} ms, {share}");
        }
    }
}

#[test]
fn junk_before_each_good_token_harms_none_even_after_an_hour_of_junk() {
    for (before, every) in [(1, 100), (1, 1000), (5, 1000), (9, 10_000), (9, 600_000)] {
        let mut scene = Scene::new(0);
        let mut now = 0;
        while now < 3_600_000 {
            scene.junk(now);
            now += 20;
        }
        // The attacker rests before it begins with this, as long as the client does.
        now += 10_000;
        for _ in 0..200 {
            for _ in 0..before {
                scene.junk(now);
            }
            scene.good(now + 1);
            now += every;
        }
        assert_eq!((scene.passed, scene.good), (200, 200), "{before}, {every}");
    }
}

#[test]
fn after_an_hour_of_junk_alone_good_tokens_pass_again_soon() {
    for seed in 1..6 {
        let mut scene = Scene::new(0);
        mixed(&mut scene, 100.0, 0.0, 0, 3600, seed);
        mixed(&mut scene, 100.0, 20.0, 3_600_000, 120, seed + 100);
        assert!(scene.share() >= 0.85, "{}", scene.share());
        // They continue to pass.
        let (passed, good) = (scene.passed, scene.good);
        mixed(&mut scene, 100.0, 20.0, 3_720_000, 120, seed + 200);
        assert_eq!(scene.good - good, scene.passed - passed);
    }
}

#[test]
fn a_server_that_fails_on_all_tokens_is_left_alone_whatever_the_flood() {
    for flood in [120.0, 1000.0, 4000.0] {
        let mut scene = Scene::new(0);
        mixed(&mut scene, flood, 0.0, 0, 60, 7);
        // 100 until it opens, 50 at once, then 100 in a second, 100 in two, 50 in four, 50 in eight, 25 in ten, and 20 in
        // each ten; and as the pace becomes slower, some more may go out early.
        let most = 100 + 50 + 2 * (100 + 50 + 25) + 4 * 20;
        assert!(scene.calls <= most + 50, "{}", scene.calls);
        let before = scene.calls;
        mixed(&mut scene, flood, 0.0, 60_000, 600, 8);
        let later = scene.calls - before;
        assert!(later <= 2 * 600 + 10, "{later}");
    }
}

proptest! {
    #[test]
    fn a_record_is_what_was_written(run in 0..1u64 << 20, cut_off in 0..1u64 << 16, ended in 0..1u64 << 20, openings in 0..1u64 << 8) {
        let record = Record { run, cut_off, ended, openings };
        prop_assert_eq!(Record::read(record.word()), record);
        let more = Record { run: run + (1 << 20), ..record };
        prop_assert_eq!(Record::read(more.word()), Record { run: Record::LIMIT, ..record });
    }

    /// In any order of events: one answer lets all calls pass; a refused call is let through at the time that the
    /// refusal named; and without an answer no more calls are sent than that.
    #[test]
    fn no_order_of_events_stops_calls_for_longer_than_is_said(
        events in prop::collection::vec((0..6u8, 0..3000u64), 1..400),
        max_fails in 1..8u32,
    ) {
        let words = SharedAtomics::default();
        let breaker = Breaker { words: &words, policy: BreakerSettings { max_fails, ..POLICY } };
        let mut now = 1;
        for (event, pause) in events {
            now += pause;
            match event {
                0 => { breaker.failed(Evidence::Connection, now, pause); }
                1 | 2 => { breaker.failed(Evidence::Stranger, now, pause); }
                3 => { breaker.failed(Evidence::Known, now, pause); }
                4 => {
                    breaker.succeeded();
                    prop_assert!(!breaker.is_open());
                    prop_assert_eq!(breaker.refuses(Trust::Stranger, now), None);
                }
                _ => { breaker.withdrawn(); }
            }
            for trust in [Trust::Known, Trust::Stranger] {
                if let Some(after) = breaker.refuses(trust, now) {
                    prop_assert!(after <= LONGEST);
                    let (open, _) = state(words[OPEN_UNTIL].load(Acquire));
                    if open == State::Doubt {
                        prop_assert_eq!(breaker.refuses(trust, now + after), None);
                    }
                }
                if let Admission::Wait(_) = breaker.admit(trust, now) {
                    prop_assert!(breaker.is_open());
                }
            }
        }
    }
}
