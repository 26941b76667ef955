use super::*;

fn id(key: u32, sequence: u32) -> MessageId {
    MessageId {
        run: 1,
        key,
        sequence,
    }
}

/// Ten messages of each of two keys, each sent once and acknowledged.
fn report() -> Report {
    let messages: Vec<_> = (0..10)
        .flat_map(|n| [(id(0, n), 1, true), (id(1, n), 1, true)])
        .collect();
    Report::of(1, &messages)
}

fn all() -> Vec<MessageId> {
    (0..10).flat_map(|n| [id(0, n), id(1, n)]).collect()
}

fn verdict(ids: &[MessageId]) -> Verdict {
    check(&report(), &Records::of(ids))
}

#[test]
fn a_faithful_copy_is_sound() {
    let verdict = verdict(&all());
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!(
        (verdict.sent, verdict.acknowledged, verdict.arrived),
        (20, 20, 20)
    );
    assert_eq!(
        (
            verdict.duplicates,
            verdict.unexplained_duplicates.count,
            verdict.split_keys
        ),
        (0, 0, 0)
    );
}

#[test]
fn a_planted_loss_is_seen() {
    let mut ids = all();
    ids.remove(7);
    let verdict = verdict(&ids);
    assert_eq!(
        verdict.missing,
        Findings {
            count: 1,
            examples: vec![id(1, 3)]
        }
    );
    assert!(!verdict.is_sound());
    assert!(std::panic::catch_unwind(|| verdict.assert_nothing_lost().sent).is_err());
}

#[test]
fn everything_lost_is_seen_with_ten_examples() {
    let verdict = verdict(&[]);
    assert_eq!((verdict.missing.count, verdict.missing.examples.len()), (20, 10));
}

#[test]
fn what_was_not_acknowledged_need_not_arrive() {
    let report = Report::of(1, &[(id(0, 0), 1, true), (id(0, 1), 3, false)]);
    assert!(check(&report, &Records::of(&[id(0, 0)])).is_sound());
    assert!(check(&report, &Records::of(&[id(0, 0), id(0, 1)])).is_sound());
}

#[test]
fn what_was_never_sent_is_spurious() {
    let stranger = MessageId {
        run: 2,
        key: 0,
        sequence: 0,
    };
    let ids = [all(), vec![id(0, 10), id(5, 0), stranger]].concat();
    let verdict = verdict(&ids);
    assert_eq!(verdict.spurious.examples, [id(0, 10), id(5, 0), stranger]);
    assert!(!verdict.is_sound());
}

#[test]
fn duplicates_are_charged_to_the_publisher_as_far_as_it_repeated() {
    let report = Report::of(1, &[(id(0, 0), 1, true), (id(0, 1), 3, true)]);
    let ids = [id(0, 0), id(0, 0), id(0, 1), id(0, 1), id(0, 1), id(0, 1)];
    let verdict = check(&report, &Records::of(&ids));
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!((verdict.duplicates, verdict.publisher_repeats), (4, 2));
    assert_eq!(verdict.unexplained_duplicates.examples, [id(0, 0), id(0, 1)]);
    verdict.assert_duplicates_at_most(2);
    assert!(std::panic::catch_unwind(|| verdict.assert_duplicates_at_most(1).sent).is_err());
}

#[test]
fn disorder_of_first_occurrences_is_seen() {
    let mut ids = all();
    ids.swap(4, 6);
    let verdict = verdict(&ids);
    assert_eq!(
        verdict.out_of_order,
        Findings {
            count: 1,
            examples: vec![id(0, 2)]
        }
    );
    assert!(!verdict.is_sound());
}

#[test]
fn a_repeat_behind_its_successors_is_no_disorder() {
    let ids = [all(), vec![id(0, 2), id(0, 3)]].concat();
    let verdict = verdict(&ids);
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!(verdict.duplicates, 2);
}
