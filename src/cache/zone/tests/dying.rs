use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::super::atomics::crash;
use super::*;

/// Runs `work` in a child and waits for its end: true if it lived to it.
///
/// The child shares nothing with the other threads of the tests but the zone: `work` takes no lock of theirs and prints
/// nothing.
fn in_child(work: impl FnOnce()) -> bool {
    // SAFETY: the child does only what `work` does, with memory that the C library keeps in order over a fork, and ends
    // without running anything else.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: this process is the child, which has nothing to clean up.
        unsafe { libc::_exit(if done.is_ok() { 0 } else { 3 }) };
    }
    let mut status = 0;
    // SAFETY: `child` is a child of this process, and `status` may be written to.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFSIGNALED(status) {
        assert_eq!(libc::WTERMSIG(status), libc::SIGKILL);
        return false;
    }
    assert_eq!(libc::WEXITSTATUS(status), 0, "the child panicked");
    true
}

const HELD: u64 = 30;

/// A zone of one shard whose share of active entries is nearly full.
fn filled(memory: &Memory) -> Arc<Zone> {
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    for number in 0..HELD {
        store.set(
            &key(number),
            &value(number, 1, 5000),
            EntryKind::Active,
            START,
        );
    }
    for number in HELD..HELD + 20 {
        store.set(
            &key(number),
            &value(number, 1, 50),
            EntryKind::Inactive,
            START,
        );
    }
    let version = store.version(&key(0)).unwrap();
    assert_eq!(
        store.lease_at(&key(0), &lease(1, version), START),
        LeaseOutcome::Granted
    );
    // Two that end soon, and others.
    for number in (900..902).chain(0..20) {
        let time = noted_for(if number < 900 { 60 } else { 10 }, START);
        assert_eq!(
            store.first_use_at(&proof(number), time, START),
            FirstUse::First
        );
    }
    assert_eq!(zone.counts().evictions, 0);
    zone
}

/// Of a proof that is recorded for a minute from the start on.
const PROOF_TIME: ProofTime = ProofTime {
    iat: 1_700_000_998,
    now: 1_700_001_000,
    window: MINUTE,
};

fn proof(number: u64) -> ProofId {
    ProofId(*key(number + (1 << 40)).as_bytes())
}

fn lease(flight: u64, version: Version) -> FetchLease {
    FetchLease {
        flight,
        version,
        within: MINUTE,
        waited_for: None,
        waited: std::time::Duration::ZERO,
    }
}

/// Checks that must hold in all cases: the zone is intact, and returns only values that were put.
fn verify(zone: &Arc<Zone>, at: u64) {
    zone.check()
        .unwrap_or_else(|wrong| panic!("write {at}: {wrong}"));
    let store = zone.store(&provider(1));
    for number in 0..101 {
        if let Some(seen) = store.seen(&key(number), START) {
            assert!(is_value(number, &seen), "write {at}, key {number}");
        }
    }
    // The zone can still be used.
    for number in 90..110 {
        store.set(
            &key(number),
            &value(number, 7, 300),
            EntryKind::Active,
            START,
        );
        assert!(store.seen(&key(number), START).is_some(), "write {at}");
        store.remove(&key(number));
        assert!(store.seen(&key(number), START).is_none(), "write {at}");
    }
    zone.check()
        .unwrap_or_else(|wrong| panic!("write {at}: {wrong}"));
}

/// Checks that must hold for a full zone, whatever it has forgotten since: a used proof is not new until its time is
/// over.
fn verify_proofs(zone: &Arc<Zone>, at: u64) {
    let store = zone.store(&provider(1));
    let truth = match zone.counts().recoveries {
        0 => FirstUse::Replayed,
        _ => FirstUse::Lost,
    };
    for now in [START, START + 59_999] {
        let time = ProofTime {
            now: noted_for(0, now).now,
            ..PROOF_TIME
        };
        for number in 0..20 {
            let said = store.first_use_at(&proof(number), time, now);
            assert_eq!(said, truth, "write {at}, proof {number}");
        }
    }
}

/// Makes a child die at each of its writes, or at every `stride`th when there are many. Returns the number of deaths,
/// and the number of deaths that emptied a shard.
fn die_everywhere(stride: u64, work: impl Fn(&ZoneStore)) -> [u64; 2] {
    let mut emptied = 0;
    let mut deaths = 0;
    for write in (0..).step_by(stride as usize) {
        let memory = Memory::new(Zone::MIN_SIZE);
        let zone = filled(&memory);
        let store = zone.store(&provider(1));
        let lived = in_child(|| {
            crash::after(write);
            work(&store);
        });
        verify(&zone, write);
        verify_proofs(&zone, write);
        if lived {
            break;
        }
        deaths += 1;
        emptied += u64::from(zone.counts().recoveries > 0);
    }
    [deaths, emptied]
}

#[test]
fn a_process_that_dies_at_any_point_of_a_change_costs_one_shard_at_most() {
    type Change = (&'static str, u64, fn(&ZoneStore));
    let changes: [Change; 15] = [
        ("put", 1, |store| {
            store.set(&key(100), &value(100, 2, 50), EntryKind::Active, START);
        }),
        ("put what pushes out others", 7, |store| {
            store.set(&key(100), &value(100, 2, 40_000), EntryKind::Active, START);
        }),
        ("put in the place of another", 1, |store| {
            store.set(&key(3), &value(3, 2, 1100), EntryKind::Inactive, START);
        }),
        ("get what has not been used for long", 1, |store| {
            store.seen(&key(3), START + 30_000);
        }),
        ("get what has ended", 1, |store| {
            store.seen(&key(3), START + 60_000);
        }),
        ("remove", 1, |store| store.remove(&key(3))),
        ("end", 1, |store| {
            let version = store.version(&key(3)).unwrap();
            store.end_at(&key(3), &value(3, 2, 50), MINUTE, version, START);
        }),
        ("end what is not known", 1, |store| {
            let version = store.version(&key(100)).unwrap();
            store.end_at(&key(100), &value(100, 2, 50), MINUTE, version, START);
        }),
        ("clear", 97, |store| store.clear()),
        ("claim", 1, |store| {
            let version = store.version(&key(3)).unwrap();
            store.lease_at(&key(3), &lease(2, version), START);
        }),
        ("release", 1, |store| {
            store.settle_at(&key(0), 1, None, START)
        }),
        ("fail", 1, |store| {
            store.settle_at(&key(0), 1, Some(&[1; 500]), START);
        }),
        ("note a proof", 1, |store| {
            let _ = store.first_use_at(&proof(1000), PROOF_TIME, START);
        }),
        ("note a proof in the place of a verdict", 7, |store| {
            for number in 1000..1300 {
                let _ = store.first_use_at(&proof(number), PROOF_TIME, START);
            }
        }),
        ("note a proof in the place of others", 1, |store| {
            let _ = store.first_use_at(&proof(1000), PROOF_TIME, START + 10_000);
        }),
    ];
    for (name, stride, change) in changes {
        let [deaths, emptied] = die_everywhere(stride, change);
        assert!(deaths > 3, "{name}: {deaths}");
        assert_eq!(deaths, emptied, "{name}: each was noticed");
    }
}

#[test]
fn a_process_that_dies_while_it_mends_what_another_left_is_mended_after() {
    let mut deaths = 0;
    for write in (0..).step_by(61) {
        let memory = Memory::new(Zone::MIN_SIZE);
        let zone = filled(&memory);
        let store = zone.store(&provider(1));
        let put = |after| {
            in_child(|| {
                crash::after(after);
                store.set(&key(100), &value(100, 2, 40_000), EntryKind::Active, START);
            })
        };
        assert!(!put(40));
        let lived = put(write);
        verify(&zone, write);
        verify_proofs(&zone, write);
        if lived {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 60, "{deaths}");
}

#[test]
fn a_process_that_dies_while_it_opens_a_provider_takes_a_slot_from_nobody_else() {
    let mut deaths = 0;
    // Most of its writes are to versions, of which each is like the others.
    let versions = COUNTERS as u64;
    for write in (0..20).chain((20..versions).step_by(97)).chain(versions..) {
        let memory = Memory::new(Zone::MIN_SIZE);
        let zone = memory.attach();
        let stores: Vec<_> = (0..64)
            .map(|number| zone.store(&provider(number)))
            .collect();
        for store in &stores {
            store
                .words()
                .unwrap()
                .iter()
                .for_each(|word| word.store(9, Ordering::Relaxed));
        }
        let lived = in_child(|| {
            crash::after(write);
            zone.store(&provider(100));
        });
        let newcomer = zone.store(&provider(100));
        let words = newcomer.words().unwrap();
        assert!(
            words.iter().all(|word| word.load(Ordering::Relaxed) == 0),
            "write {write}"
        );
        newcomer.set(&key(1), b"stored", EntryKind::Active, START);
        assert!(newcomer.seen(&key(1), START).is_some());
        let lost: Vec<_> = (0..64)
            .filter(|&number| stores[number].words().is_none())
            .collect();
        assert_eq!(lost, [0], "write {write}");
        if lived {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 10, "{deaths}");
}

#[test]
fn a_process_that_dies_while_it_makes_a_zone_leaves_none_or_a_whole_one() {
    for write in (0..).step_by(59) {
        let memory = Memory::new(Zone::MIN_SIZE);
        let lived = in_child(|| {
            crash::after(write);
            memory.attach();
        });
        let (zone, attached) = memory.try_attach().unwrap();
        verify(&zone, write);
        let truth = if lived { Attached::Kept } else { Attached::New };
        assert_eq!(attached, truth, "write {write}");
        if lived {
            assert!(write > 4096);
            break;
        }
    }
}

#[test]
fn a_claim_ends_with_its_process() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let version = store.version(&key(1)).unwrap();
    assert!(in_child(|| {
        store.lease_at(&key(1), &lease(1, version), START);
    }));
    assert_eq!(zone.counts().claims, 1);
    assert_eq!(
        store.lease_at(&key(1), &lease(2, version), START),
        LeaseOutcome::Granted
    );
    // And is held as long as that lives, in the eyes of any other.
    assert!(in_child(|| {
        let said = store.lease_at(&key(1), &lease(3, version), START);
        assert!(said == LeaseOutcome::Held(2));
    }));
}

#[test]
fn of_processes_that_use_one_proof_at_once_one_is_the_first() {
    const PROOFS: usize = 400;
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let notes = Memory::new(PAGE);
    // SAFETY: a page of zeroes that is aligned and lives longer than what is made of it.
    let notes = unsafe { std::slice::from_raw_parts(notes.base().cast::<AtomicU64>(), PROOFS) };
    let children: Vec<_> = (1..=4u8)
        .map(|number| {
            // SAFETY: as in `in_child`.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            if child == 0 {
                let store = zone.store(&provider(number));
                for (number, note) in notes.iter().enumerate() {
                    let said = store.first_use_at(&proof(number as u64), PROOF_TIME, START);
                    if said == FirstUse::First {
                        note.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // SAFETY: as in `in_child`.
                unsafe { libc::_exit(0) };
            }
            child
        })
        .collect();
    for child in children {
        let mut status = 0;
        // SAFETY: a child of this process that nobody has waited for yet, and `status` may be written to.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }
    assert!(notes.iter().all(|note| note.load(Ordering::Relaxed) == 1));
    zone.check().unwrap();
}

/// Children that make random calls to a zone until they are killed. They don't outlive the test.
struct Herd<'a> {
    children: Vec<libc::pid_t>,
    zone: &'a Arc<Zone>,
    /// The progress of each child, and the errors that all of them have found.
    done: &'a [AtomicU64],
    wrong: &'a AtomicU64,
}

impl Herd<'_> {
    fn spawn(&mut self, place: usize, seed: u64) {
        // SAFETY: as in `in_child`.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            hammer(self.zone, seed, &self.done[place], self.wrong);
            // SAFETY: as in `in_child`.
            unsafe { libc::_exit(0) };
        }
        match self.children.get_mut(place) {
            Some(known) => *known = child,
            None => self.children.push(child),
        }
    }

    fn kill(&self, place: usize) {
        let child = self.children[place];
        let mut status = 0;
        // SAFETY: a child of this process that nobody has waited for yet.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, &raw mut status, 0);
        }
    }
}

impl Drop for Herd<'_> {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|place| self.kill(place));
    }
}

fn hammer(zone: &Arc<Zone>, seed: u64, done: &AtomicU64, wrong: &AtomicU64) {
    let started = clock::now().monotonic;
    let mut state = seed;
    let mut store = zone.store(&provider(1));
    let mut bytes = Vec::with_capacity(16 << 10);
    loop {
        state = mixed(state);
        let number = (state >> 8) % 600;
        let name = key(number);
        let now = clock::now().monotonic;
        if now - started > 60_000 {
            return;
        }
        match state % 256 {
            0..120 => {
                bytes.clear();
                if store.get_at(&name, &mut bytes, now).is_some() && !is_value(number, &bytes) {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
            }
            120..200 => {
                let length = 16 + (state >> 32) as usize % if state & 1 == 0 { 300 } else { 9000 };
                let kind = [EntryKind::Active, EntryKind::Inactive][(state >> 24) as usize % 2];
                store.set(&name, &value(number, state as u32, length), kind, now);
            }
            200..220 => store.remove(&name),
            220..240 => {
                let version = store.version(&name).unwrap();
                store.lease_at(&name, &lease(state, version), now);
                if state & 512 == 0 {
                    store.settle_at(&name, state, Some(&[1; 100]), now);
                }
            }
            240..244 => {
                let _ = store.first_use_at(&proof(state >> 8), PROOF_TIME, now);
                // Of its own, which no other uses: the second time is never the first.
                let said = store.first_use_at(&proof(state >> 8), PROOF_TIME, now);
                if said == FirstUse::First {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
            }
            244 => store = zone.store(&provider((state >> 40) as u8 % 70)),
            245 if state & 0x700 == 0 => store.clear(),
            _ => {
                zone.counts();
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn processes_killed_at_any_moment_leave_no_deadlock_and_no_wrong_value() {
    const CHILDREN: usize = 4;
    const KILLS: u64 = 220;
    let memory = Memory::new(1 << 20);
    let zone = memory.attach();
    let notes = Memory::new(PAGE);
    // SAFETY: a page of zeroes that is aligned and lives longer than what is made of it.
    let notes =
        unsafe { std::slice::from_raw_parts(notes.base().cast::<AtomicU64>(), CHILDREN + 1) };
    let (wrong, done) = notes.split_first().unwrap();
    let mut herd = Herd {
        children: Vec::new(),
        zone: &zone,
        done,
        wrong,
    };
    (0..CHILDREN).for_each(|place| herd.spawn(place, place as u64));
    for round in 0..KILLS {
        std::thread::sleep(Duration::from_micros(1_000 + mixed(round) % 12_000));
        let victim = mixed(round ^ 77) as usize % CHILDREN;
        herd.kill(victim);
        // The others continue.
        let before: Vec<u64> = done
            .iter()
            .map(|done| done.load(Ordering::Relaxed))
            .collect();
        let patience = Instant::now();
        for place in (0..CHILDREN).filter(|&place| place != victim) {
            while done[place].load(Ordering::Relaxed) == before[place] {
                assert!(patience.elapsed() < Duration::from_secs(10), "a deadlock");
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        herd.spawn(victim, 1000 + round);
    }
    drop(herd);
    zone.check().unwrap();
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    let counts = zone.counts();
    assert!(
        counts.recoveries > 0,
        "none was killed in the middle of something: {counts:?}"
    );
    verify(&zone, KILLS);
}
