use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const KEYS: u64 = 24;

#[derive(Debug, Clone)]
enum Step {
    Put {
        who: usize,
        inactive: bool,
        length: usize,
        keep: u64,
    },
    /// With the version noted before, whatever has happened since.
    PutNoted {
        who: usize,
        length: usize,
    },
    Note {
        who: usize,
    },
    Get {
        who: usize,
    },
    /// The token is called inactive, for a request that asked now or when the version was noted.
    End {
        who: usize,
        keep: u64,
        noted: bool,
    },
    Remove {
        who: usize,
    },
    Clear {
        provider: usize,
    },
    FetchLease {
        who: usize,
        within: u64,
        waited: bool,
        noted: bool,
    },
    Settle {
        who: usize,
        failure: Option<usize>,
    },
    Use {
        who: usize,
    },
    Pass {
        millis: u64,
    },
    Reattach,
}

/// Keys 0 to 23 are the first provider's, the others the second's.
fn who(keys: u64) -> impl Strategy<Value = usize> {
    0..2 * keys as usize
}

fn step(keys: u64, lengths: [usize; 2], failure: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (who(keys), any::<bool>(), any::<prop::sample::Index>(), 0..5000u64).prop_map(
            move |(who, inactive, length, keep)| Step::Put {
                who,
                inactive,
                length: 16 + length.index(lengths[usize::from(inactive)] - 16),
                keep
            }
        ),
        1 => (who(keys), 16..lengths[0]).prop_map(|(who, length)| Step::PutNoted { who, length }),
        1 => who(keys).prop_map(|who| Step::Note { who }),
        4 => who(keys).prop_map(|who| Step::Get { who }),
        1 => who(keys).prop_map(|who| Step::Remove { who }),
        2 => (who(keys), 0..5000u64, any::<bool>())
            .prop_map(|(who, keep, noted)| Step::End { who, keep: keep.saturating_sub(2000), noted }),
        1 => prop_oneof![20 => Just(None), 1 => (0..2usize).prop_map(Some)].prop_map(|provider| {
            provider.map_or(Step::Pass { millis: 1 }, |provider| Step::Clear { provider })
        }),
        3 => (who(keys), 0..5000u64, any::<bool>(), any::<bool>()).prop_map(
            |(who, within, waited, noted)| Step::FetchLease { who, within, waited, noted }
        ),
        2 => (who(keys), prop::option::of(0..failure))
            .prop_map(|(who, failure)| Step::Settle { who, failure }),
        4 => who(keys).prop_map(|who| Step::Use { who }),
        2 => (0..3000u64).prop_map(|millis| Step::Pass { millis }),
        1 => prop_oneof![10 => Just(Step::Pass { millis: 1 }), 1 => Just(Step::Reattach)],
    ]
}

#[derive(Debug, Clone)]
struct Stored {
    bytes: Vec<u8>,
    until: u64,
    active: bool,
}

/// An active verdict in the memory of a process, which uses it under this epoch.
#[derive(Debug, Clone, Copy)]
struct Copied {
    epoch: u32,
    until: u64,
}

#[derive(Debug, Clone)]
struct Held {
    flight: u64,
    version: Version,
    until: u64,
    failure: Option<Vec<u8>>,
}

/// A model of a zone that never runs out of room.
#[derive(Default)]
struct Model {
    stored: HashMap<usize, Stored>,
    claims: HashMap<usize, Held>,
    noted: HashMap<usize, Version>,
    /// All verdicts that any process may have cached.
    copies: HashMap<usize, Vec<Copied>>,
    /// Whether there has been any.
    copied: bool,
    /// The times until which proofs are recorded.
    proofs: HashMap<u64, u64>,
    /// The flight that was granted a lease last, and the one that was waited for.
    granted: HashMap<usize, u64>,
    waited: HashMap<usize, u64>,
}

impl Model {
    fn copy(&mut self, who: usize, epoch: u32, until: u64) {
        self.copied = true;
        self.copies
            .entry(who)
            .or_default()
            .push(Copied { epoch, until });
    }
}

/// `exact`: there is room for everything, so that nothing may be forgotten.
fn run(steps: Vec<Step>, size: usize, keys: u64, exact: bool) -> Result<(), TestCaseError> {
    let memory = Memory::new(size);
    let mut zone = memory.attach();
    let mut stores = [1, 2].map(|number| zone.store(&provider(number)));
    let mut model = Model::default();
    let mut now = START;
    let mut count = 0;
    for (number, step) in steps.into_iter().enumerate() {
        let owner = |who: usize| who / keys as usize;
        let store = |who: usize| &stores[owner(who)];
        let name = |who: usize| key(who as u64);
        match step {
            Step::Put {
                who,
                inactive,
                length,
                keep,
            } => {
                let kind = if inactive {
                    EntryKind::Inactive
                } else {
                    EntryKind::Active
                };
                let bytes = value(who as u64, number as u32, length);
                let version = store(who).version(&name(who)).unwrap();
                let span = Duration::from_millis(keep);
                prop_assert!(store(who).put_at(&name(who), &bytes, kind, span, version, now));
                let until = now + keep;
                if !inactive {
                    model.copy(who, version.epoch, until);
                }
                let active = !inactive;
                model.stored.insert(
                    who,
                    Stored {
                        bytes,
                        until,
                        active,
                    },
                );
            }
            Step::PutNoted { who, length } => {
                let Some(&version) = model.noted.get(&who) else {
                    continue;
                };
                let bytes = value(who as u64, number as u32, length);
                let same = store(who).version(&name(who)) == Some(version);
                let stored =
                    store(who).put_at(&name(who), &bytes, EntryKind::Active, MINUTE, version, now);
                prop_assert_eq!(stored, same);
                if stored {
                    let (until, active) = (now + 60_000, true);
                    model.copy(who, version.epoch, until);
                    model.stored.insert(
                        who,
                        Stored {
                            bytes,
                            until,
                            active,
                        },
                    );
                }
            }
            Step::Note { who } => {
                model
                    .noted
                    .insert(who, store(who).version(&name(who)).unwrap());
            }
            Step::Get { who } => {
                let epoch = store(who).version(&name(who)).unwrap().epoch;
                let truth = model.stored.get(&who).filter(|stored| now < stored.until);
                let truth = truth.cloned();
                let mut bytes = Vec::new();
                let left = store(who).get_at(&name(who), &mut bytes, now);
                if exact {
                    prop_assert_eq!(left.is_some(), truth.is_some());
                }
                if let Some(left) = left {
                    let truth = truth.ok_or(TestCaseError::fail("it says what is not true"))?;
                    prop_assert_eq!(&bytes, &truth.bytes);
                    prop_assert_eq!(left, Duration::from_millis(truth.until - now));
                    if truth.active {
                        model.copy(who, epoch, truth.until);
                    }
                }
            }
            Step::End { who, keep, noted } => {
                let before = store(who).version(&name(who)).unwrap();
                let asked = model.noted.get(&who).copied().filter(|_| noted);
                let asked = asked.unwrap_or(before);
                let bytes = value(who as u64, number as u32, 40);
                let span = Duration::from_millis(keep);
                let said = store(who).end_at(&name(who), &bytes, span, asked, now);
                let after = store(who).version(&name(who)).unwrap();
                prop_assert_ne!(before, after, "what was asked for before is not stored");
                prop_assert_eq!(said, (asked.epoch == before.epoch).then_some(after));
                // No process uses a copy any more.
                let copies = model.copies.remove(&who).unwrap_or_default();
                let believed = copies
                    .iter()
                    .filter(|copy| now < copy.until && copy.epoch == after.epoch)
                    .count();
                prop_assert_eq!(believed, 0);
                // Random tokens alone end no entry that others have cached.
                if !model.copied {
                    prop_assert_eq!(before.epoch, after.epoch);
                }
                let until = now + keep;
                if said.is_some() && keep > 0 {
                    model.stored.insert(
                        who,
                        Stored {
                            bytes,
                            until,
                            active: false,
                        },
                    );
                } else if model.stored.get(&who).is_some_and(|stored| stored.active) {
                    model.stored.remove(&who);
                }
            }
            Step::Remove { who } => {
                let before = store(who).version(&name(who));
                store(who).remove(&name(who));
                prop_assert_ne!(store(who).version(&name(who)), before);
                model.stored.remove(&who);
            }
            Step::Clear { provider } => {
                let versions = |stores: &[ZoneStore; 2]| {
                    (0..2 * keys)
                        .map(|who| stores[0].version(&key(who)))
                        .collect::<Vec<_>>()
                };
                let before = versions(&stores);
                stores[provider].clear();
                let after = versions(&stores);
                prop_assert!(
                    before
                        .iter()
                        .zip(&after)
                        .all(|(before, after)| before != after)
                );
                model.stored.retain(|&who, _| owner(who) != provider);
                model.claims.retain(|&who, _| owner(who) != provider);
            }
            Step::FetchLease {
                who,
                within,
                waited,
                noted,
            } => {
                let current = store(who).version(&name(who)).unwrap();
                let version = if noted {
                    model.noted.get(&who).copied()
                } else {
                    None
                };
                count += 1;
                let lease = FetchLease {
                    flight: count,
                    version: version.unwrap_or(current),
                    within: Duration::from_millis(within),
                    waited_for: model.waited.get(&who).copied().filter(|_| waited),
                    waited: std::time::Duration::ZERO,
                };
                let held = model.claims.get(&who).filter(|held| now < held.until);
                let said = store(who).lease_at(&name(who), &lease, now);
                let truth = match held {
                    Some(Held {
                        flight,
                        failure: Some(failure),
                        ..
                    }) if Some(*flight) == lease.waited_for => {
                        LeaseOutcome::Failed(failure.clone())
                    }
                    _ if lease.version.epoch != current.epoch => LeaseOutcome::Granted,
                    Some(Held {
                        flight,
                        version,
                        failure: None,
                        ..
                    }) if version.epoch == current.epoch => LeaseOutcome::Held(*flight),
                    _ => LeaseOutcome::Granted,
                };
                if exact || said != LeaseOutcome::Granted {
                    prop_assert_eq!(&said, &truth);
                }
                match said {
                    LeaseOutcome::Granted if lease.version.epoch == current.epoch => {
                        model.granted.insert(who, lease.flight);
                        model.claims.insert(
                            who,
                            Held {
                                flight: lease.flight,
                                version: current,
                                until: now + within,
                                failure: None,
                            },
                        );
                    }
                    LeaseOutcome::Held(flight) => {
                        model.waited.insert(who, flight);
                    }
                    _ => {}
                }
            }
            Step::Settle { who, failure } => {
                let Some(&flight) = model.granted.get(&who) else {
                    continue;
                };
                let failure = failure.map(|length| vec![who as u8; length]);
                store(who).settle_at(&name(who), flight, failure.as_deref(), now);
                let held = model.claims.get_mut(&who);
                if let Some(held) =
                    held.filter(|held| held.flight == flight && held.failure.is_none())
                {
                    match failure {
                        Some(failure) => {
                            held.failure = Some(failure[..failure.len().min(512)].to_vec());
                            held.until = now + 2000;
                        }
                        None => {
                            model.claims.remove(&who);
                        }
                    }
                }
                model.waited.insert(who, flight);
            }
            Step::Use { who } => {
                // Both providers share the records.
                let number = who as u64 % keys;
                let time = noted_for(3, now);
                let said = store(who).first_use_at(&ProofId(*key(number).as_bytes()), time, now);
                let used = model.proofs.get(&number).is_some_and(|&until| now < until);
                let truth = if used {
                    FirstUse::Replayed
                } else {
                    FirstUse::First
                };
                if exact || used {
                    prop_assert_eq!(said, truth);
                } else {
                    prop_assert!(matches!(said, FirstUse::First | FirstUse::Full));
                }
                if said == FirstUse::First {
                    model.proofs.insert(number, now + 3000);
                }
            }
            Step::Pass { millis } => now += millis,
            Step::Reattach => {
                let (again, attached) = memory.try_attach().unwrap();
                prop_assert_eq!(attached, Attached::Kept);
                zone = again;
                stores = [1, 2].map(|number| zone.store(&provider(number)));
            }
        }
        if number % 32 == 0 {
            zone.check().map_err(TestCaseError::fail)?;
        }
    }
    zone.check().map_err(TestCaseError::fail)?;
    prop_assert_eq!(zone.counts().recoveries, 0);
    if exact {
        prop_assert_eq!(zone.counts().evictions, 0);
    }
    Ok(())
}

proptest! {
    #[test]
    fn while_there_is_room_a_zone_says_exactly_what_is_true(
        steps in prop::collection::vec(step(KEYS, [3000, 400], 41), 1..400),
        size in prop_oneof![Just(Zone::MIN_SIZE), Just(1 << 20)],
    ) {
        // What is cleared keeps its room until it is needed; in the larger one there is enough for all in any shard.
        run(steps, size, KEYS, true)?;
    }

    #[test]
    fn when_there_is_none_it_may_have_forgotten_but_says_nothing_else(
        steps in prop::collection::vec(step(200, [12_000, 3000], 600), 1..400),
    ) {
        run(steps, Zone::MIN_SIZE, 200, false)?;
    }
}
