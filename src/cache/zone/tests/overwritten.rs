use proptest::prelude::*;

use super::super::layout::Front;
use super::*;

/// Makes every call for every key: none may panic, hang or leave the memory. (Beside the memory are pages that no
/// process may touch.)
fn use_all(zone: &Arc<Zone>, now: u64) {
    let stores = [1, 2, 3].map(|number| zone.store(&provider(number)));
    for round in 0..2 {
        for number in 0..160 {
            let store = &stores[number as usize % 2];
            let key = key(number);
            let mut value = Vec::new();
            store.get_at(&key, &mut value, now);
            let version = store.version(&key).unwrap();
            let lease = FetchLease {
                flight: number,
                version,
                within: MINUTE,
                waited_for: Some(number ^ 1),
                waited: std::time::Duration::ZERO,
            };
            store.lease_at(&key, &lease, now);
            store.settle_at(&key, number, Some(&[1; 200]), now);
            let proof = ProofId(*key.as_bytes());
            let time = noted_for(60, now);
            let _ = store.first_use_at(&proof, time, now);
            assert_ne!(store.first_use_at(&proof, time, now), FirstUse::Unsupported);
            match (number + round) % 5 {
                0 => store.remove(&key),
                1 => store.set(&key, &[2; 40], EntryKind::Inactive, now),
                _ => store.set(&key, &[3; 1500], EntryKind::Active, now),
            }
        }
    }
    zone.counts();
    stores[0].clear();
}

fn filled(memory: &Memory) -> Arc<Zone> {
    let zone = memory.attach();
    let stores = [1, 2].map(|number| zone.store(&provider(number)));
    for number in 0..160 {
        let store = &stores[number as usize % 2];
        let length = mixed(number) as usize % 3000;
        let kind = [EntryKind::Active, EntryKind::Inactive][usize::from(number % 5 == 0)];
        store.set(&key(number), &vec![number as u8; length], kind, START);
        if number % 3 == 0 {
            let version = store.version(&key(number)).unwrap();
            let lease = FetchLease {
                flight: number,
                version,
                within: MINUTE,
                waited_for: None,
                waited: std::time::Duration::ZERO,
            };
            store.lease_at(&key(number), &lease, START);
        }
    }
    zone
}

fn overwrite(memory: &Memory, zone: &Zone, at: usize, bytes: &[u8]) {
    let locks = zone.locks();
    for (at, &byte) in (at..memory.size).zip(bytes) {
        if !locks.iter().any(|lock| lock.contains(&at)) {
            memory.write(at, byte);
        }
    }
}

/// A word that is likely to mean something, or not.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..2000u32, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

proptest! {
    #[test]
    fn a_zone_that_somebody_wrote_over_forgets_and_does_no_harm(
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), word()), 1..60),
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..60),
    ) {
        let memory = Memory::new(Zone::MIN_SIZE);
        let zone = filled(&memory);
        // Half of them into the head of the shard, which begins behind the front, and into its buckets.
        for (at, first, word) in words {
            let size = if first { 2 << 10 } else { memory.size - size_of::<Front>() };
            let at = size_of::<Front>() + at.index(size) / 4 * 4;
            overwrite(&memory, &zone, at, &word.to_le_bytes());
        }
        for (at, byte) in bytes {
            overwrite(&memory, &zone, at.index(memory.size), &[byte]);
        }
        use_all(&zone, START);
        use_all(&zone, START + 1);
        // Attached again it is one that is whole, or as good as new.
        let (zone, _) = memory.try_attach().unwrap();
        use_all(&zone, START + 2);
        // Emptied, it is as good as new in any case.
        for number in 0..zone.map.geometry().shards {
            zone.locked(number, |_| Err::<(), _>(Corrupt));
        }
        zone.check().map_err(TestCaseError::fail)?;
        use_all(&zone, START + 3);
        zone.check().map_err(TestCaseError::fail)?;
    }
}

#[test]
fn a_zone_that_is_all_noise_but_for_its_locks_comes_back_to_work() {
    for seed in 0..30u64 {
        let memory = Memory::new(Zone::MIN_SIZE);
        let zone = filled(&memory);
        for at in (0..memory.size).step_by(8) {
            let noise = match seed % 3 {
                0 => mixed(seed ^ ((at as u64) << 8)),
                // Small numbers, as those of blocks are.
                1 => mixed(seed ^ at as u64) & 0x0000_03ff_0000_03ff,
                _ => u64::MAX,
            };
            overwrite(&memory, &zone, at, &noise.to_le_bytes());
        }
        use_all(&zone, START);
        let (zone, _) = memory.try_attach().unwrap();
        use_all(&zone, START);
        zone.check().unwrap();
    }
}

#[test]
fn a_panic_under_the_lock_empties_the_shard() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = filled(&memory);
    let store = zone.store(&provider(1));
    // The last that was stored for this provider: the first ones have been pushed out since.
    let version = store.version(&key(158)).unwrap();
    assert!(store.seen(&key(158), START).is_some());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        zone.locked::<()>(0, |_| std::panic::resume_unwind(Box::new("a defect")));
    }));
    assert!(panicked.is_err());
    assert!(store.seen(&key(158), START).is_none());
    assert_ne!(store.version(&key(158)), Some(version));
    assert_eq!(zone.counts().recoveries, 1);
    zone.check().unwrap();
}
