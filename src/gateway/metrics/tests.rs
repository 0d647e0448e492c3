use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::text::LONGEST;
use super::*;
use crate::LastError;

/// Fictitious processes: those with a number of at least 1000 are alive.
fn alive(pid: u32) -> bool {
    pid >= 1000
}

fn tally() -> Arc<SharedMetrics> {
    SharedMetrics::alone(7)
}

fn row(tally: &Arc<SharedMetrics>, name: &str, pid: u32) -> Slot {
    tally.row_of(name, &[name], pid, &alive).unwrap()
}

fn sum(tally: &SharedMetrics, name: &str) -> Totals {
    tally.sum_by(name, &alive)
}

/// Metrics with a different value in each number, so that a test can tell the numbers apart.
fn done(times: u64) -> ProcessMetrics {
    let mut done = ProcessMetrics::default();
    let stats = &mut done.stats;
    let single = [
        &mut stats.hits,
        &mut stats.shared_hits,
        &mut stats.misses,
        &mut stats.coalesced,
        &mut stats.stale,
        &mut stats.inactive,
        &mut stats.calls,
        &mut stats.retries,
        &mut stats.refreshes,
        &mut stats.breaker_openings,
        &mut stats.evictions,
        &mut stats.latency_sum_us,
        &mut stats.in_flight,
        &mut stats.waiting,
        &mut stats.entries,
        &mut stats.inactive_entries,
        &mut stats.bytes,
    ];
    let all = single
        .into_iter()
        .chain(&mut stats.errors)
        .chain(&mut stats.latency)
        .chain(&mut done.outcomes)
        .chain(&mut done.verdicts);
    for (number, value) in (1..).zip(all) {
        *value = number * times;
    }
    done.stats.breaker_open = 1;
    done
}

fn failure(at: i64, message: &str) -> Option<LastError> {
    Some(LastError {
        at,
        message: message.into(),
    })
}

/// All counters.
fn counters(done: &ProcessMetrics) -> Vec<u64> {
    Counted::of(done).counters.to_vec()
}

fn gauges(done: &ProcessMetrics) -> Vec<u64> {
    Counted::of(done).gauges.to_vec()
}

#[test]
fn what_processes_have_done_and_hold_is_added_up_each_number_in_its_place() {
    let tally = tally();
    let mut first = row(&tally, "a", 1001);
    let mut second = row(&tally, "a", 1002);
    let mut other = row(&tally, "b", 1001);
    first.publish(&done(1));
    second.publish(&done(10));
    other.publish(&done(1000));
    let all = sum(&tally, "a");
    let mut expected = done(11);
    expected.stats.breaker_open = 2;
    assert_eq!(format!("{:?}", all.done), format!("{expected:?}"));
    assert_eq!(all.processes, 2);
    assert_eq!(sum(&tally, "c").processes, 0);
    assert_eq!(tally.since(), 7);
}

#[test]
fn what_a_process_has_done_outlives_it_and_what_it_held_does_not() {
    let tally = tally();
    let mut left = row(&tally, "a", 1001);
    left.publish(&done(1));
    drop(left);
    // A process that takes its place, and is killed.
    let mut killed = row(&tally, "a", 50);
    assert_eq!(counters(&sum(&tally, "a").done), counters(&done(1)));
    killed.publish(&done(1));
    let all = sum(&tally, "a");
    assert_eq!(counters(&all.done), counters(&done(2)));
    assert_eq!(gauges(&all.done), [0; words::GAUGES]);
    assert_eq!(all.processes, 0);
    // A third process.
    let mut third = row(&tally, "a", 1003);
    assert_eq!(third.index, 0, "the same row");
    assert_eq!(counters(&sum(&tally, "a").done), counters(&done(2)));
    assert_eq!(gauges(&sum(&tally, "a").done), [0; words::GAUGES]);
    third.publish(&done(1));
    assert_eq!(counters(&sum(&tally, "a").done), counters(&done(3)));
    assert_eq!(gauges(&sum(&tally, "a").done), gauges(&done(1)));
    // The process that was considered dead changes nothing any more.
    killed.publish(&done(100));
    drop(killed);
    assert_eq!(counters(&sum(&tally, "a").done), counters(&done(3)));
    assert_eq!(sum(&tally, "a").processes, 1);
}

#[test]
fn a_process_with_the_number_of_one_that_died_takes_its_row() {
    let tally = tally();
    let mut first = row(&tally, "a", 1001);
    first.publish(&done(1));
    std::mem::forget(first);
    let second = row(&tally, "a", 1001);
    assert_eq!(second.index, 0);
    assert_eq!(counters(&sum(&tally, "a").done), counters(&done(1)));
}

#[test]
fn old_and_new_workers_count_side_by_side_and_rows_are_used_again() {
    let tally = tally();
    for generation in 0..100_u32 {
        // The new workers start before the old ones have ended.
        let mut old: Vec<_> = (0..4)
            .map(|worker| row(&tally, "a", 1000 + generation * 8 + worker))
            .collect();
        let mut new: Vec<_> = (4..8)
            .map(|worker| row(&tally, "a", 1000 + generation * 8 + worker))
            .collect();
        for row in old.iter_mut().chain(&mut new) {
            row.publish(&done(1));
        }
        assert!(old.iter().chain(&new).all(|row| row.index < 8));
    }
    assert_eq!(counters(&sum(&tally, "a").done), counters(&done(800)));
}

#[test]
fn rows_of_providers_that_are_gone_are_taken_only_when_none_is_left() {
    let tally = tally();
    let known = ["kept", "new"];
    for name in ["gone", "kept"] {
        tally
            .row_of(name, &[name], 1001, &alive)
            .unwrap()
            .publish(&done(1));
    }
    let others: Vec<_> = (0..SharedMetrics::ROWS as u32 - 2)
        .map(|number| {
            tally
                .row_of("other", &known, 2000 + number, &alive)
                .unwrap()
        })
        .collect();
    assert_eq!(counters(&sum(&tally, "gone").done), counters(&done(1)));
    let mut last = tally.row_of("new", &known, 1002, &alive).unwrap();
    assert_eq!(sum(&tally, "gone").done.stats.hits, 0, "it was taken");
    assert_eq!(sum(&tally, "new").done.stats.hits, 0, "and emptied");
    last.publish(&done(1));
    assert_eq!(counters(&sum(&tally, "new").done), counters(&done(1)));
    assert!(
        tally.row_of("new", &known, 1003, &alive).is_none(),
        "what is left is of processes that live, or of a provider that is used"
    );
    assert_eq!(counters(&sum(&tally, "kept").done), counters(&done(1)));
    drop(others);
    assert!(tally.row_of("new", &known, 1003, &alive).is_some());
}

#[test]
fn the_last_error_of_each_kind_is_that_of_whoever_had_it_last() {
    let tally = tally();
    let mut first = row(&tally, "a", 1001);
    let mut second = row(&tally, "a", 1002);
    let mut one = done(1);
    one.last_errors[0] = failure(100, "refused");
    one.last_errors[5] = failure(300, "late");
    first.publish(&one);
    let mut two = done(1);
    two.last_errors[0] = failure(200, "refused again");
    two.last_errors[5] = failure(200, "late before");
    second.publish(&two);
    let last = sum(&tally, "a").done.last_errors;
    assert_eq!(last[0], failure(200, "refused again"));
    assert_eq!(last[5], failure(300, "late"));
    assert_eq!(last[1], None);
    // The errors outlive their processes too.
    drop((first, second));
    let third = row(&tally, "a", 1003);
    assert_eq!(sum(&tally, "a").done.last_errors, last);
    drop(third);
}

#[test]
fn a_long_message_is_cut_between_characters_and_none_can_forge_a_line() {
    let tally = tally();
    let mut row = row(&tally, "a", 1001);
    let mut one = done(1);
    one.last_errors[0] = failure(1, &"é".repeat(500));
    one.last_errors[1] = failure(1, &format!("x{}", "é".repeat(500)));
    one.last_errors[2] = failure(1, "a\nb\u{1b}[31m");
    row.publish(&one);
    let last = sum(&tally, "a").done.last_errors;
    assert_eq!(
        last[0],
        failure(1, &format!("{}…", "é".repeat((LONGEST - 3) / 2)))
    );
    assert_eq!(
        last[1],
        failure(1, &format!("x{}…", "é".repeat((LONGEST - 4) / 2)))
    );
    assert_eq!(last[2], failure(1, "a?b?[31m"));
}

#[test]
fn a_message_whose_writer_died_is_left_out_and_the_next_one_counts_again() {
    let tally = tally();
    let mut killed = row(&tally, "a", 50);
    let mut one = done(1);
    one.last_errors[0] = failure(100, "whole");
    killed.publish(&one);
    let slot: &[AtomicWord] = words_of_slot(&tally);
    slot[0].fetch_add(1, Relaxed);
    assert_eq!(sum(&tally, "a").done.last_errors[0], failure(100, ""));
    let mut next = row(&tally, "a", 1001);
    assert_eq!(sum(&tally, "a").done.last_errors[0], failure(100, ""));
    one.last_errors[0] = failure(101, "whole again");
    next.publish(&one);
    assert_eq!(
        sum(&tally, "a").done.last_errors[0],
        failure(101, "whole again")
    );
}

use std::sync::atomic::AtomicU64 as AtomicWord;

/// The whole memory as words.
fn all_words(tally: &SharedMetrics) -> &[AtomicWord] {
    // SAFETY: the memory consists of such words and of padding between them, which nobody else uses.
    unsafe { std::slice::from_raw_parts(tally.memory.as_ptr().cast(), SharedMetrics::SIZE / 8) }
}

/// The words from the first message of the first row on.
fn words_of_slot(tally: &SharedMetrics) -> &[AtomicWord] {
    let slot = &raw const tally.memory().bodies[0].errors[0];
    let first = (slot.addr() - tally.memory.as_ptr().addr()) / 8;
    &all_words(tally)[first..]
}

#[test]
fn nobody_reads_a_message_half_while_it_is_written() {
    let tally = tally();
    let stop = AtomicBool::new(false);
    let messages: Vec<String> = (0..10_u8)
        .map(|number| {
            char::from(b'a' + number)
                .to_string()
                .repeat(20 * usize::from(number) + 3)
        })
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut row = row(&tally, "a", 1001);
            let mut one = done(1);
            for (at, message) in (1..).zip(messages.iter().cycle()) {
                one.last_errors[3] = failure(at, message);
                row.publish(&one);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut whole = 0;
        let deadline = std::time::Instant::now() + Duration::from_millis(300);
        while std::time::Instant::now() < deadline {
            if let Some(last) = &sum(&tally, "a").done.last_errors[3]
                && !last.message.is_empty()
            {
                let place = (last.at - 1) as usize % messages.len();
                assert_eq!(*last.message, *messages[place]);
                whole += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(whole > 0);
    });
}

#[test]
fn a_sum_never_falls_while_processes_come_and_are_killed() {
    // Shared with child processes, which are killed at any point.
    // SAFETY: new memory is requested. It is unmapped when the test's process ends.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SharedMetrics::SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(base, libc::MAP_FAILED);
    // SAFETY: the memory is aligned to a page, large enough and zero, and nobody else attaches.
    let (tally, attached) =
        unsafe { SharedMetrics::attach(base.cast(), SharedMetrics::SIZE, 1) }.unwrap();
    assert_eq!(attached, Attached::New);
    let mut former = sum(&tally, "a").done;
    let mut one = done(0);
    for round in 0..60_u64 {
        // SAFETY: the child takes a row and writes to it until it is killed. The system's allocator works after a fork,
        // and no lock of ours is involved.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let row = tally.row("a", &["a"]);
            let Some(mut row) = row else {
                // SAFETY: ends the child.
                unsafe { libc::_exit(1) }
            };
            loop {
                one.stats.hits += 1;
                one.outcomes[3] += 1;
                one.stats.entries = 5;
                row.publish(&one);
            }
        }
        let until = std::time::Instant::now() + Duration::from_micros(3000 + round * 131);
        while std::time::Instant::now() < until {
            let now = tally.sum("a").done;
            let falls = counters(&former)
                .into_iter()
                .zip(counters(&now))
                .any(|(before, after)| after < before);
            assert!(!falls, "{former:?} {now:?}");
            former = now;
        }
        let mut status = 0;
        // SAFETY: the child is this test's own.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, &raw mut status, 0);
        }
        assert!(libc::WIFSIGNALED(status), "it had a row");
        assert_eq!(tally.sum("a").done.stats.entries, 0, "it is gone");
    }
    assert!(former.stats.hits > 0);
    assert!(all_words(&tally).len() > 1);
    let used = tally
        .memory()
        .heads
        .iter()
        .filter(|head| head.state.load(Relaxed) == TAKEN);
    assert_eq!(used.count(), 1, "one after the other took the same row");

    // SAFETY: as above; the memory is as the `SharedMetrics` left it.
    let (again, attached) =
        unsafe { SharedMetrics::attach(base.cast(), SharedMetrics::SIZE, 2) }.unwrap();
    assert_eq!(attached, Attached::Kept);
    assert_eq!(again.since(), 1);
    assert_eq!(
        counters(&again.sum("a").done),
        counters(&tally.sum("a").done)
    );
    all_words(&again)[1].store(99, Relaxed);
    // SAFETY: as above.
    let (anew, attached) =
        unsafe { SharedMetrics::attach(base.cast(), SharedMetrics::SIZE, 3) }.unwrap();
    assert_eq!(attached, Attached::Replaced);
    assert_eq!((anew.since(), anew.sum("a").done.stats.hits), (3, 0));
}

#[test]
fn memory_that_does_not_fit_is_refused() {
    let mut bytes = [0_u64; 16];
    let base = bytes.as_mut_ptr().cast::<u8>();
    // SAFETY: the memory is not read.
    unsafe {
        assert!(SharedMetrics::attach(base, 128, 0).is_err());
        assert!(SharedMetrics::attach(std::ptr::null_mut(), SharedMetrics::SIZE, 0).is_err());
        assert!(
            SharedMetrics::attach(std::ptr::without_provenance_mut(8), SharedMetrics::SIZE, 0)
                .is_err()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_stands_in_the_memory_gives_numbers(
        writes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..400),
        everywhere in prop::option::of(any::<u64>()),
    ) {
        let tally = tally();
        let mut row = tally.row_of("a", &["a"], 1001, &alive).unwrap();
        row.publish(&done(1));
        let words = all_words(&tally);
        if let Some(value) = everywhere {
            words.iter().for_each(|word| word.store(value, Relaxed));
        }
        // Most of the changes hit bytes that are in use.
        let front = (&raw const tally.memory().bodies[4]).addr() - tally.memory.as_ptr().addr();
        for (number, (index, value)) in writes.iter().enumerate() {
            let among = if number % 8 == 0 { words.len() } else { front / 8 };
            words[index.index(among)].store(*value, Relaxed);
        }
        row.publish(&done(2));
        let all = sum(&tally, "a");
        for last in all.done.last_errors.iter().flatten() {
            prop_assert!(!last.message.chars().any(char::is_control));
            prop_assert!(last.at >= 0);
        }
        prop_assert!(tally.processes() <= SharedMetrics::ROWS);
        if let Some(mut next) = tally.row_of("a", &["a"], 1002, &alive) {
            next.publish(&done(1));
        }
        if let Some(mut next) = tally.row_of("b", &["a", "b"], 1002, &alive) {
            next.publish(&done(1));
            prop_assert!(sum(&tally, "b").done.stats.hits >= 1);
        }
    }
}
