use super::*;

fn lease(flight: u64, version: Version, waited_for: Option<u64>) -> FetchLease {
    FetchLease {
        flight,
        version,
        within: Duration::from_secs(5),
        waited_for,
        waited: std::time::Duration::ZERO,
    }
}

#[test]
fn values_of_any_length_come_out_as_they_went_in_behind_what_is_there() {
    let memory = Memory::new(1 << 20);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let edges = [FIRST, FIRST + MORE, FIRST + 9 * MORE];
    let mut lengths: Vec<usize> = edges
        .into_iter()
        .flat_map(|edge| [edge - 1, edge, edge + 1])
        .collect();
    lengths.extend([0, 1, 16, 1100, 8192, 65_536]);
    for length in lengths {
        let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
        store.set(&key(1), &bytes, EntryKind::Active, START);
        let mut seen = b"before".to_vec();
        let left = store.get_at(&key(1), &mut seen, START + 1000);
        assert_eq!(left, Some(MINUTE - Duration::from_secs(1)), "{length}");
        assert_eq!(seen, [b"before".as_slice(), &bytes].concat());
        let blocks = blocks_for(length) as u64;
        assert_eq!(zone.counts().bytes, blocks * BLOCK as u64);
        zone.check().unwrap();
    }
}

#[test]
fn what_is_stored_lives_for_its_time_and_not_a_moment_longer() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    store.set(&key(1), b"one", EntryKind::Active, START);
    store.set(&key(2), b"two", EntryKind::Inactive, START);
    assert_eq!(zone.counts().entries, 2);
    assert_eq!(zone.counts().inactive_entries, 1);
    assert_eq!(
        store.seen(&key(1), START + 59_999).as_deref(),
        Some(b"one".as_slice())
    );
    assert_eq!(store.seen(&key(1), START + 60_000), None);
    assert_eq!(store.seen(&key(2), START + 60_000), None);
    assert_eq!(zone.counts().bytes, 0, "what is met dead is gone");

    let version = store.version(&key(1)).unwrap();
    store.set(&key(1), b"one", EntryKind::Active, START);
    store.put_at(
        &key(1),
        b"two",
        EntryKind::Active,
        Duration::ZERO,
        version,
        START,
    );
    assert_eq!(store.seen(&key(1), START), None, "kept for no time at all");
    store.put_at(
        &key(1),
        b"two",
        EntryKind::Active,
        Duration::MAX,
        version,
        START,
    );
    assert_eq!(
        store.seen(&key(1), u64::MAX - 1).as_deref(),
        Some(b"two".as_slice())
    );
}

#[test]
fn nothing_found_out_before_a_purge_is_stored_after_it() {
    let memory = Memory::new(1 << 20);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let other = zone.store(&provider(1));
    let noted = store.version(&key(1)).unwrap();
    store.put_at(&key(1), b"old", EntryKind::Active, MINUTE, noted, START);
    other.remove(&key(1));
    assert_ne!(store.version(&key(1)), Some(noted));
    assert_eq!(store.seen(&key(1), START), None);
    store.put_at(&key(1), b"old", EntryKind::Active, MINUTE, noted, START);
    assert_eq!(store.seen(&key(1), START), None);

    let noted = store.version(&key(1)).unwrap();
    store.put_at(&key(1), b"new", EntryKind::Active, MINUTE, noted, START);
    other.clear();
    assert_ne!(store.version(&key(1)), Some(noted));
    assert_eq!(store.seen(&key(1), START), None);
    store.put_at(&key(1), b"new", EntryKind::Active, MINUTE, noted, START);
    assert_eq!(store.seen(&key(1), START), None);
    zone.check().unwrap();
}

#[test]
fn clearing_one_provider_leaves_the_others_what_they_have() {
    let memory = Memory::new(1 << 20);
    let zone = memory.attach();
    let [one, two] = [1, 2].map(|number| zone.store(&provider(number)));
    for number in 0..100 {
        one.set(&key(number), b"one", EntryKind::Active, START);
        two.set(&key(100 + number), b"two", EntryKind::Inactive, START);
    }
    let versions: Vec<_> = (0..100).map(|number| one.version(&key(number))).collect();
    one.clear();
    for number in 0..100 {
        assert_eq!(one.seen(&key(number), START), None);
        assert_ne!(one.version(&key(number)), versions[number as usize]);
        assert!(two.seen(&key(100 + number), START).is_some());
    }
    zone.check().unwrap();
}

#[test]
fn what_one_provider_has_stored_no_other_sees() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let [one, two] = [1, 2].map(|number| zone.store(&provider(number)));
    one.set(&key(1), b"one", EntryKind::Active, START);
    assert_eq!(two.seen(&key(1), START), None);
}

#[test]
fn a_flood_of_inactive_verdicts_or_of_claims_pushes_out_not_one_active_one() {
    let memory = Memory::new(4 << 20);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    // Nearly as many as there is room for: keys are not spread evenly over the shards.
    let room = zone.counts().capacity as usize * 13 / 16 / BLOCK / 10;
    let held: Vec<u64> = (0..room as u64 * 8 / 10).collect();
    for &number in &held {
        store.set(
            &key(number),
            &value(number, 1, 1100),
            EntryKind::Active,
            START,
        );
    }
    assert_eq!(zone.counts().evictions, 0);
    for number in 1_000_000..2_000_000 {
        if number % 2 == 0 {
            store.set(&key(number), &[0; 50], EntryKind::Inactive, START);
        } else {
            let version = store.version(&key(number)).unwrap();
            store.lease_at(&key(number), &lease(number, version, None), START);
        }
    }
    for &number in &held {
        let seen = store.seen(&key(number), START).unwrap();
        assert!(is_value(number, &seen));
    }
    let counts = zone.counts();
    let full = counts.capacity / BLOCK as u64;
    assert!(
        counts.inactive_entries > full / 8 * 9 / 10,
        "the share is used: {counts:?}"
    );
    assert!(
        counts.claims > full / 16 * 9 / 10,
        "the share is used: {counts:?}"
    );
    zone.check().unwrap();
}

#[test]
fn an_entry_is_pushed_out_when_its_kind_has_no_room_and_the_one_used_least_recently_goes_first() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    assert_eq!(zone.map.geometry().shards, 1);
    let store = zone.store(&provider(1));
    let room = u64::from(zone.map.geometry().quotas[EntryKind::Active as usize]) / 10;
    for number in 0..room {
        store.set(&key(number), &[0; 1100], EntryKind::Active, START);
    }
    assert_eq!(zone.counts().evictions, 0);
    let later = START + 20_000;
    assert!(store.seen(&key(0), later).is_some());
    store.set(&key(room), &[0; 1100], EntryKind::Active, later);
    assert_eq!(zone.counts().evictions, 1);
    assert!(store.seen(&key(0), later).is_some(), "it was used since");
    assert!(store.seen(&key(1), later).is_none(), "the oldest by now");
    assert!(store.seen(&key(2), later).is_some());

    // A large one replaces many, and entries that were dead already are not counted.
    let dead = START + 60_000;
    store.set(&key(9_999), &vec![0; 30_000], EntryKind::Active, dead);
    assert!(zone.counts().evictions <= 3, "{:?}", zone.counts());
    assert!(store.seen(&key(9_999), dead).is_some());
    zone.check().unwrap();
}

#[test]
fn a_value_larger_than_its_share_is_not_stored_and_what_was_there_is_forgotten() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    store.set(&key(1), b"small", EntryKind::Active, START);
    store.set(&key(2), b"small", EntryKind::Active, START);
    store.set(&key(1), &vec![0; 200 << 10], EntryKind::Active, START);
    assert_eq!(store.seen(&key(1), START), None);
    assert!(store.seen(&key(2), START).is_some());
    zone.check().unwrap();
}

#[test]
fn one_flight_at_a_time_holds_a_claim_and_the_next_has_it_when_it_is_settled() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let version = store.version(&key(1)).unwrap();
    let ask =
        |flight, waited_for, now| store.lease_at(&key(1), &lease(flight, version, waited_for), now);
    assert_eq!(ask(1, None, START), LeaseOutcome::Granted);
    assert_eq!(ask(1, None, START), LeaseOutcome::Granted, "it is its own");
    assert_eq!(ask(2, None, START), LeaseOutcome::Held(1));
    store.settle_at(&key(1), 2, None, START);
    assert_eq!(
        ask(2, Some(1), START),
        LeaseOutcome::Held(1),
        "another's to release"
    );
    store.settle_at(&key(1), 1, None, START);
    assert_eq!(zone.counts().claims, 0);
    assert_eq!(ask(2, Some(1), START), LeaseOutcome::Granted);
    assert_eq!(ask(3, None, START + 4_999), LeaseOutcome::Held(2));
    assert_eq!(
        ask(3, None, START + 5_000),
        LeaseOutcome::Granted,
        "its time is over"
    );
    zone.check().unwrap();
}

#[test]
fn a_claim_and_what_is_stored_stand_beside_each_other() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let version = store.version(&key(1)).unwrap();
    store.set(&key(1), b"stored", EntryKind::Active, START);
    assert_eq!(
        store.lease_at(&key(1), &lease(1, version, None), START),
        LeaseOutcome::Granted
    );
    assert!(store.seen(&key(1), START).is_some());
    store.set(&key(1), b"again", EntryKind::Active, START);
    assert_eq!(
        store.lease_at(&key(1), &lease(2, version, None), START),
        LeaseOutcome::Held(1)
    );
    store.settle_at(&key(1), 1, None, START);
    assert!(store.seen(&key(1), START).is_some());
}

#[test]
fn a_failure_is_told_to_those_who_waited_for_it_and_to_nobody_else() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let version = store.version(&key(1)).unwrap();
    let ask =
        |flight, waited_for, now| store.lease_at(&key(1), &lease(flight, version, waited_for), now);
    for failure in [
        b"why".to_vec(),
        Vec::new(),
        vec![b'w'; 512],
        vec![b'w'; 5000],
    ] {
        assert_eq!(ask(1, None, START), LeaseOutcome::Granted);
        store.settle_at(&key(1), 1, Some(&failure), START);
        let kept = failure[..failure.len().min(512)].to_vec();
        assert_eq!(ask(2, Some(1), START), LeaseOutcome::Failed(kept.clone()));
        assert_eq!(ask(3, Some(1), START + 1_999), LeaseOutcome::Failed(kept));
        assert_eq!(
            ask(4, Some(1), START + 2_000),
            LeaseOutcome::Granted,
            "long ago"
        );
        store.settle_at(&key(1), 4, Some(&failure), START);
        assert_eq!(
            ask(5, None, START),
            LeaseOutcome::Granted,
            "it has not waited"
        );
        store.settle_at(&key(1), 5, None, START);
        zone.check().unwrap();
    }
}

#[test]
fn after_a_purge_nobody_waits_for_who_began_before_it() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let before = store.version(&key(1)).unwrap();
    let ask = |flight, version| store.lease_at(&key(1), &lease(flight, version, None), START);
    assert_eq!(ask(1, before), LeaseOutcome::Granted);
    store.remove(&key(1));
    let after = store.version(&key(1)).unwrap();
    assert_eq!(ask(2, after), LeaseOutcome::Granted);
    assert_eq!(ask(3, before), LeaseOutcome::Granted, "it may ask");
    assert_eq!(
        ask(4, after),
        LeaseOutcome::Held(2),
        "and takes the place of nobody"
    );
    store.settle_at(&key(1), 1, None, START);
    assert_eq!(ask(4, after), LeaseOutcome::Held(2));
    store.clear();
    let cleared = store.version(&key(1)).unwrap();
    assert_eq!(ask(5, cleared), LeaseOutcome::Granted);
}

#[test]
fn memory_is_kept_when_it_fits_and_made_anew_when_it_does_not() {
    let memory = Memory::new(2 << 20);
    let (zone, attached) = memory.try_attach().unwrap();
    assert_eq!(attached, Attached::New);
    let store = zone.store(&provider(1));
    store.set(&key(1), b"stored", EntryKind::Active, START);
    store.words().unwrap()[2].store(7, Ordering::Relaxed);
    let (zone, attached) = memory.try_attach().unwrap();
    assert_eq!(attached, Attached::Kept);
    let again = zone.store(&provider(1));
    assert!(again.seen(&key(1), START).is_some());
    assert_eq!(again.words().unwrap()[2].load(Ordering::Relaxed), 7);
    assert_eq!(again.version(&key(1)), store.version(&key(1)));

    let half = Memory::new(2 << 20);
    half.write(0, 1);
    assert_eq!(
        half.try_attach().unwrap().1,
        Attached::Replaced,
        "something else"
    );
    // SAFETY: the first half of the memory.
    let smaller = unsafe { Zone::attach(memory.base(), 1 << 20) }.unwrap();
    assert_eq!(smaller.1, Attached::Replaced, "another size");
    let store = smaller.0.store(&provider(1));
    assert_eq!(store.seen(&key(1), START), None);
    assert_eq!(store.words().unwrap()[2].load(Ordering::Relaxed), 0);
    smaller.0.map.front().header.layout.set(LAYOUT + 1);
    // SAFETY: as above.
    let other = unsafe { Zone::attach(memory.base(), 1 << 20) }.unwrap();
    assert_eq!(other.1, Attached::Replaced, "another layout");
    other.0.check().unwrap();
}

#[test]
fn memory_that_is_too_small_or_askew_is_refused() {
    let memory = Memory::new(Zone::MIN_SIZE);
    // SAFETY: within the memory, if at all.
    let attach = |at: usize, size| unsafe { Zone::attach(memory.base().wrapping_add(at), size) };
    let said = attach(0, Zone::MIN_SIZE - 1).err().unwrap();
    assert_eq!(
        said.to_string(),
        "a zone of 262143 bytes is too small: it needs 262144 at least"
    );
    assert!(attach(8, Zone::MIN_SIZE).is_err());
    assert!(attach(0, Zone::MIN_SIZE).is_ok());
}

#[test]
fn words_begin_as_zeroes_and_are_the_providers_own() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let [one, two] = [1, 2].map(|number| zone.store(&provider(number)));
    one.words().unwrap()[0].store(5, Ordering::Relaxed);
    assert_eq!(two.words().unwrap()[0].load(Ordering::Relaxed), 0);
    let again = zone.store(&provider(1));
    assert_eq!(again.words().unwrap()[0].load(Ordering::Relaxed), 5);
}

#[test]
fn with_more_providers_than_slots_the_one_opened_longest_ago_starts_over() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let stores: Vec<_> = (0..64)
        .map(|number| zone.store(&provider(number)))
        .collect();
    for (number, store) in (0..).zip(&stores) {
        store.set(&key(number), b"stored", EntryKind::Active, START);
        store.words().unwrap()[0].store(number + 1, Ordering::Relaxed);
    }
    zone.store(&provider(0));
    let newcomer = zone.store(&provider(100));
    assert_eq!(newcomer.words().unwrap()[0].load(Ordering::Relaxed), 0);
    // The slot belonged to 1: its holder stores nothing any more, and affects no other.
    let lost = &stores[1];
    assert!(lost.words().is_none());
    assert_eq!(lost.seen(&key(1), START), None);
    lost.set(&key(1), b"stored", EntryKind::Active, START);
    lost.clear();
    assert_eq!(zone.counts().entries, 64);
    for number in (0..64).filter(|&number| number != 1) {
        assert!(stores[number as usize].seen(&key(number), START).is_some());
    }
    // Opened again it has another slot, and a purge through the old one is one of it all.
    let again = zone.store(&provider(1));
    assert_eq!(again.seen(&key(1), START), None);
    again.set(&key(1), b"stored", EntryKind::Active, START);
    again.set(&key(65), b"stored", EntryKind::Active, START);
    lost.remove(&key(65));
    assert_eq!(again.seen(&key(65), START), None);
    lost.clear();
    assert_eq!(again.seen(&key(1), START), None);
    zone.check().unwrap();
}

#[test]
fn what_was_cleared_does_not_come_back_with_the_slot_it_was_in() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    zone.store(&provider(0))
        .set(&key(1), b"stored", EntryKind::Active, START);
    for number in 1..=64 {
        zone.store(&provider(number));
    }
    // In another slot by now.
    zone.store(&provider(0)).clear();
    for number in 2..=64 {
        zone.store(&provider(number));
    }
    for _ in 0..3 {
        // Through all slots, one after the other.
        for number in 0..=64 {
            let store = zone.store(&provider(number));
            assert_eq!(store.seen(&key(1), START), None);
        }
    }
}

fn proof(number: u64) -> ProofId {
    ProofId(*key(number).as_bytes())
}

#[test]
fn a_proof_is_used_once_whoever_asks_and_whenever() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let [one, two] = [1, 2].map(|number| zone.store(&provider(number)));
    let time = noted_for(60, START);
    assert_eq!(one.first_use_at(&proof(1), time, START), FirstUse::First);
    for store in [&one, &two] {
        assert_eq!(
            store.first_use_at(&proof(1), time, START + 59_999),
            FirstUse::Replayed
        );
    }
    assert_eq!(two.first_use_at(&proof(2), time, START), FirstUse::First);
    // Its record has ended, and is still there.
    let now = START + 60_000;
    assert_eq!(two.first_use_at(&proof(1), time, now), FirstUse::Replayed);
    // It does not prevent a later record of the same name.
    let later = noted_for(60, now);
    assert_eq!(two.first_use_at(&proof(1), later, now), FirstUse::First);
    assert_eq!(zone.counts().proofs, 1, "what has ended is gone");
    for store in [&one, &two] {
        assert_eq!(
            store.first_use_at(&proof(1), later, now),
            FirstUse::Replayed
        );
        assert_eq!(store.first_use_at(&proof(1), time, now), FirstUse::Replayed);
        assert_eq!(store.first_use_at(&proof(2), time, now), FirstUse::Lost);
    }
    zone.check().unwrap();
}

#[test]
fn one_that_is_accepted_no_more_is_not_noted_and_not_let_in() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let store = memory.attach().store(&provider(1));
    let time = noted_for(0, START);
    assert_eq!(store.first_use_at(&proof(1), time, START), FirstUse::Full);
}

#[test]
fn no_longer_window_and_no_older_clock_lets_a_proof_in_again() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let old = ProofTime {
        window: Duration::from_secs(2),
        ..noted_for(62, START)
    };
    assert_eq!(store.first_use_at(&proof(1), old, START), FirstUse::First);
    let now = START + 10_000;
    for number in 2..5 {
        let time = noted_for(62, now);
        assert_eq!(
            store.first_use_at(&proof(number), time, now),
            FirstUse::First
        );
    }
    assert_eq!(zone.counts().proofs, 3, "its note has gone");
    // By other rules, or by the time of then, it would be accepted.
    for again in [
        ProofTime {
            window: MINUTE,
            now: old.now + 10,
            ..old
        },
        ProofTime {
            now: old.now,
            ..old
        },
    ] {
        assert_eq!(store.first_use_at(&proof(1), again, now), FirstUse::Lost);
    }
    // A proof that was made after all that are forgotten is another's.
    let younger = ProofTime {
        iat: old.iat + 1,
        now: old.now,
        window: MINUTE,
    };
    assert_eq!(store.first_use_at(&proof(9), younger, now), FirstUse::First);
    zone.check().unwrap();
}

#[test]
fn a_proof_is_no_verdict_and_no_claim_of_the_same_name() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    store.set(&key(1), b"one", EntryKind::Active, START);
    let version = store.version(&key(1)).unwrap();
    assert_eq!(
        store.lease_at(&key(1), &lease(1, version, None), START),
        LeaseOutcome::Granted
    );
    assert_eq!(
        store.first_use_at(&proof(1), noted_for(60, START), START),
        FirstUse::First
    );
    assert_eq!(
        store.seen(&key(1), START).as_deref(),
        Some(b"one".as_slice())
    );
    assert_eq!(
        store.lease_at(&key(1), &lease(2, version, None), START),
        LeaseOutcome::Held(1)
    );
    assert_eq!(
        store.first_use_at(&proof(1), noted_for(60, START), START),
        FirstUse::Replayed
    );
    zone.check().unwrap();
}

#[test]
fn no_purge_and_no_change_of_providers_forgets_a_proof() {
    let memory = Memory::new(1 << 20);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let used = |store: &ZoneStore| {
        (0..100)
            .map(|number| store.first_use_at(&proof(number), noted_for(60, START), START))
            .collect::<Vec<_>>()
    };
    assert_eq!(used(&store), [FirstUse::First; 100]);
    store.clear();
    (0..100).for_each(|number| store.remove(&key(number)));
    assert_eq!(used(&store), [FirstUse::Replayed; 100]);
    // As many others as there is room for: this one has lost its slot.
    (0..70).for_each(|number| drop(zone.store(&provider(100 + number))));
    assert!(store.words().is_none());
    assert_eq!(used(&store), [FirstUse::Replayed; 100]);
    let (zone, attached) = memory.try_attach().unwrap();
    assert_eq!(attached, Attached::Kept);
    assert_eq!(used(&zone.store(&provider(1))), [FirstUse::Replayed; 100]);
    assert_eq!(zone.counts().proofs, 100);
}

#[test]
fn when_there_is_no_room_for_proofs_none_is_let_in_and_none_is_forgotten() {
    let memory = Memory::new(1 << 20);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let room = zone.counts().capacity / BLOCK as u64 / 2;
    let mut noted = Vec::new();
    let mut full = 0;
    for number in 0..2 * room {
        match store.first_use_at(&proof(number), noted_for(60, START), START) {
            FirstUse::First => noted.push(number),
            FirstUse::Full => full += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(noted.len() as u64 > room * 95 / 100 && noted.len() as u64 <= room);
    assert_eq!(noted.len() + full, 2 * room as usize);
    zone.check().unwrap();
    // Whatever else is stored.
    for number in 0..5000 {
        let kind = [EntryKind::Active, EntryKind::Inactive][number as usize % 2];
        store.set(&key(1_000_000 + number), &[0; 900], kind, START);
    }
    for &number in &noted {
        assert_eq!(
            store.first_use_at(&proof(number), noted_for(60, START), START + 59_999),
            FirstUse::Replayed
        );
    }
    assert_eq!(zone.counts().recoveries, 0);
    // When they have ended there is room for as many again.
    let now = START + 60_000;
    for &number in &noted {
        let name = proof(number + 1_000_000_000);
        let said = store.first_use_at(&name, noted_for(60, now), now);
        assert!(matches!(said, FirstUse::First | FirstUse::Full));
    }
    let counts = zone.counts();
    assert!(counts.proofs > room * 9 / 10 && counts.proofs <= room);
    zone.check().unwrap();
}

#[test]
fn proofs_take_room_of_active_verdicts_when_there_are_any_and_give_it_back() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    let fill = |from: u64, now: u64| {
        for number in from..from + 400 {
            store.set(
                &key(number),
                &value(number, 1, 1100),
                EntryKind::Active,
                now,
            );
        }
        zone.check().unwrap();
        zone.counts().entries
    };
    let all = fill(10_000, START);
    let room = zone.counts().capacity / BLOCK as u64 / 2;
    for number in 0..room {
        assert_eq!(
            store.first_use_at(&proof(number), noted_for(60, START), START),
            FirstUse::First
        );
    }
    let fewer = fill(20_000, START);
    assert!(fewer < all * 6 / 10, "{fewer} of {all}");
    assert_eq!(zone.counts().proofs, room, "none went for a verdict");
    assert_eq!(fill(30_000, START + 60_000), all);
    assert!(zone.counts().proofs < room);
    // A value that has no room beside them evicts nothing.
    let now = START + 60_000;
    for number in 0..room {
        let name = proof(1_000_000 + number);
        assert_eq!(
            store.first_use_at(&name, noted_for(60, now), now),
            FirstUse::First
        );
    }
    let before = zone.counts();
    store.set(&key(1), &vec![0; 150_000], EntryKind::Active, now);
    assert_eq!(zone.counts().entries, before.entries);
    assert_eq!(store.seen(&key(1), now), None);
    zone.check().unwrap();
}

#[test]
fn where_proofs_were_lost_only_those_pass_that_were_made_since() {
    let memory = Memory::new(Zone::MIN_SIZE);
    let zone = memory.attach();
    let store = zone.store(&provider(1));
    assert_eq!(
        store.first_use_at(&proof(1), noted_for(60, START), START),
        FirstUse::First
    );
    zone.locked(0, |_| Err::<(), _>(Corrupt));
    assert_eq!(zone.counts().recoveries, 1);
    // The one that is forgotten, and any other that may have been with it.
    let lost = START + 1000;
    for (number, left) in [(1, 59), (2, 59), (3, 1), (4, 72)] {
        assert_eq!(
            store.first_use_at(&proof(number), noted_for(left, lost), lost),
            FirstUse::Lost,
            "{number}"
        );
    }
    // What was made after all that can have been lost was not among it.
    for (later, left, said) in [
        (1000, 71, FirstUse::Lost),
        (1000, 72, FirstUse::First),
        (12_000, 60, FirstUse::Lost),
        (13_000, 60, FirstUse::First),
        (71_000, 1, FirstUse::Lost),
        (72_000, 1, FirstUse::First),
    ] {
        let now = lost + later;
        assert_eq!(
            store.first_use_at(&proof(100 + later), noted_for(left, now), now),
            said,
            "{later}"
        );
    }
    zone.check().unwrap();
}
