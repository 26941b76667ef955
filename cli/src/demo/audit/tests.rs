use super::*;

/// Three messages of each fate, each where it belongs.
fn audit() -> Audit {
    let mut audit = Audit::default();
    for _ in 0..3 {
        for fate in [Fate::Written, Fate::Filtered, Fate::DeadLettered] {
            let id = audit.publish(&[(0, fate)]);
            audit.acknowledge(id);
        }
    }
    audit
}

const LEDGER: Ledger = Ledger {
    received: 9,
    written: 3,
    filtered: 3,
    dead_lettered: 3,
    discarded: 0,
    expired: 0,
    repeats: 0,
    returned: 0,
    dropped: 0,
    in_flight: 0,
};

fn find_all(audit: &mut Audit, except: Id) {
    for id in (0..9).filter(|id| *id != except) {
        match id % 3 {
            0 => assert!(audit.find(id, 0, Place::Topic)),
            2 => assert!(audit.find(id, 0, Place::DeadLetters)),
            _ => {}
        }
    }
}

#[test]
fn all_found_is_no_fault() {
    let mut audit = audit();
    assert!(!audit.complete());
    find_all(&mut audit, 99);
    assert!(audit.complete());
    let verdict = audit.verdict(0, &LEDGER);
    assert_eq!(
        (
            verdict.published,
            verdict.written,
            verdict.filtered,
            verdict.dead_lettered
        ),
        (9, 3, 3, 3)
    );
    assert_eq!(verdict.faults(), Vec::<String>::new());
    assert_eq!(
        audit.verdict(1, &Ledger::default()).published,
        0,
        "another route has other books"
    );
}

#[test]
fn one_missing_is_named() {
    let mut audit = audit();
    find_all(&mut audit, 6);
    assert!(!audit.complete());
    assert_eq!(
        audit.verdict(0, &LEDGER).faults(),
        ["1 published but not found in Kafka (first: number 6)"]
    );
}

#[test]
fn a_filtered_message_in_kafka_or_a_good_one_among_the_dead_is_a_fault() {
    for (id, place) in [(1, Place::Topic), (0, Place::DeadLetters)] {
        let mut audit = audit();
        find_all(&mut audit, 99);
        audit.find(id, 0, place);
        let faults = audit.verdict(0, &LEDGER).faults();
        assert!(faults[0].contains("found where they do not belong"), "{faults:?}");
    }
}

#[test]
fn a_copy_is_no_loss_but_the_ledger_must_know_it() {
    let mut audit = audit();
    find_all(&mut audit, 99);
    audit.find(0, 0, Place::Topic);
    let verdict = audit.verdict(
        0,
        &Ledger {
            received: 10,
            written: 4,
            ..LEDGER
        },
    );
    assert_eq!((verdict.extra, verdict.faults().len()), (1, 0));
    assert_eq!(audit.verdict(0, &LEDGER).faults().len(), 1);
}

#[test]
fn a_ledger_that_claims_more_or_does_not_balance_is_a_fault() {
    let mut audit = audit();
    find_all(&mut audit, 99);
    assert_eq!(
        audit
            .verdict(
                0,
                &Ledger {
                    received: 10,
                    written: 4,
                    ..LEDGER
                }
            )
            .faults()
            .len(),
        1
    );
    assert_eq!(
        audit
            .verdict(
                0,
                &Ledger {
                    received: 10,
                    ..LEDGER
                }
            )
            .faults(),
        ["the ledger does not balance by 1"]
    );
}

#[test]
fn a_message_of_two_routes_is_looked_up_for_each() {
    let mut audit = Audit::default();
    let id = audit.publish(&[(0, Fate::Written), (1, Fate::DeadLettered)]);
    audit.acknowledge(id);
    assert_eq!((audit.published(), audit.expected()), (1, 2));
    assert!(audit.find(id, 0, Place::Topic));
    assert!(!audit.complete(), "the other route's record is still to come");
    assert!(audit.find(id, 1, Place::DeadLetters));
    assert!(audit.complete());
}

#[test]
fn an_unknown_record_is_told_apart() {
    assert!(!audit().find(9, 0, Place::Topic), "no such message");
    assert!(!audit().find(0, 1, Place::Topic), "not for this route");
}
