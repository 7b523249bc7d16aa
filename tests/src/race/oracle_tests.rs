//! Tests of the oracle: what it demands, what it allows, and what it cannot know.

use super::*;
use Verdict::{Exact, Legal, Lost, Resurrected};

/// Absent, version 1, version 2.
const FOUND: [Version; 3] = [None, Some(1), Some(2)];

fn put(op: u64, version: u64) -> Event {
    begin(op, false, false, &[(0, version)])
}

fn durable_put(op: u64, version: u64) -> Event {
    begin(op, false, true, &[(0, version)])
}

fn begin(op: u64, keeps: bool, durable: bool, puts: &[(Key, u64)]) -> Event {
    let puts = puts.to_vec();
    let what = What::Put {
        keeps,
        durable,
        puts,
    };
    Event::Begin { op, what }
}

fn remove(op: u64) -> Event {
    let what = What::Remove {
        durable: false,
        keys: vec![0],
    };
    Event::Begin { op, what }
}

fn get(op: u64) -> Event {
    let what = What::Get(vec![0]);
    Event::Begin { op, what }
}

fn of(op: u64, what: What) -> Event {
    Event::Begin { op, what }
}

fn end(op: u64, answer: Answer) -> Event {
    let answers = vec![answer];
    Event::End { op, answers }
}

fn evicted(generation: u64) -> Event {
    Event::Evicted { key: 0, generation }
}

fn value(version: u64, generation: u64) -> Answer {
    Answer::Value {
        version,
        generation,
    }
}

fn stored(op: u64, version: u64) -> [Event; 2] {
    [put(op, version), end(op, Answer::Written)]
}

fn synced(op: u64) -> [Event; 2] {
    [of(op, What::Sync), end(op, Answer::Done)]
}

fn after(events: &[Event]) -> Oracle {
    let mut oracle = Oracle::new(2);
    events.iter().for_each(|event| oracle.hear(event.clone()));
    oracle
}

fn verdicts(events: &[Event]) -> [Verdict; 3] {
    let oracle = after(events);
    assert_eq!(oracle.wrong, [""; 0]);
    FOUND.map(|found| oracle.judge(0, found))
}

/// A slow get returned a value that had been durably replaced while it ran. The oracle had discarded that value, and
/// called the result wrong.
#[test]
fn a_slow_get_may_return_what_was_durably_replaced_after_it_began() {
    let events = [
        vec![put(1, 1), get(2), end(1, Answer::Written)],
        vec![put(3, 2), get(4), end(4, value(2, 9))],
        synced(5).to_vec(),
        // Here the oracle discards past changes.
        vec![put(6, 7)],
        vec![end(2, value(1, 8))],
    ];
    assert_eq!(after(&events.concat()).wrong, [""; 0]);
}

/// Returns the number of violations of a session that ended by itself.
fn wrong(events: &[Event]) -> usize {
    let mut oracle = after(events);
    oracle.ended_whole();
    oracle.wrong.len()
}

#[test]
fn only_what_ended_before_the_sync_began_is_due() {
    let [p, s] = stored(1, 1);
    let [sync, done] = synced(9);
    let acknowledged = [p.clone(), s.clone()];
    assert_eq!(verdicts(&acknowledged), [Legal, Legal, Resurrected]);
    let covered = [p.clone(), s.clone(), sync.clone(), done.clone()];
    assert_eq!(verdicts(&covered), [Lost, Exact, Resurrected]);
    let within = [p.clone(), sync.clone(), s.clone(), done.clone()];
    assert_eq!(verdicts(&within)[..2], [Legal; 2]);
    let removed = [p, s, remove(2), end(2, Answer::Present), sync, done];
    assert_eq!(verdicts(&removed), [Exact, Resurrected, Resurrected]);
}

#[test]
fn a_drop_and_a_close_make_all_durable() {
    for what in [What::Drop, What::Close] {
        let [p, s] = stored(1, 1);
        let ended = [p, s, of(9, what), end(9, Answer::Done)];
        assert_eq!(verdicts(&ended), [Lost, Exact, Resurrected]);
    }
}

#[test]
fn a_durable_result_covers_what_it_refers_to() {
    let own = [durable_put(1, 1), end(1, Answer::Written)];
    assert_eq!(verdicts(&own), [Lost, Exact, Resurrected]);
    // The existing value is durable, too, although its own put was not.
    let kept = |durable| [begin(2, true, durable, &[(0, 2)]), end(2, Answer::Existed)];
    let existed = [&stored(1, 1)[..], &kept(true)].concat();
    assert_eq!(verdicts(&existed), [Lost, Exact, Resurrected]);
    let newest = [&stored(1, 1)[..], &stored(3, 2), &kept(true)].concat();
    assert_eq!(verdicts(&newest), [Lost, Resurrected, Exact]);
    let volatile = [&stored(1, 1)[..], &kept(false)].concat();
    assert_eq!(verdicts(&volatile), [Legal, Legal, Resurrected]);
    // Even if that put has no result yet.
    let under_way = [&[put(1, 1)][..], &kept(true)].concat();
    assert_eq!(verdicts(&under_way), [Lost, Exact, Resurrected]);
    // The change that superseded it is durable, not the earlier ones.
    let superseded = |durable| {
        let overtaken = begin(3, false, durable, &[(0, 3)]);
        let both = [overtaken, put(2, 2), end(3, Answer::Superseded)];
        [&stored(1, 1)[..], &both].concat()
    };
    assert_eq!(verdicts(&superseded(true)), [Lost, Resurrected, Exact]);
    assert_eq!(verdicts(&superseded(false)), [Legal; 3]);
}

#[test]
fn of_two_at_a_time_either_may_be_last_until_one_is_read() {
    let ended = [end(1, Answer::Written), end(2, Answer::Written)];
    let both = [&[put(1, 1), put(2, 2)][..], &ended].concat();
    let then = |more: &[Event]| [&both[..], more, &synced(9)].concat();
    assert_eq!(verdicts(&then(&[])), [Legal; 3]);
    let read = [get(3), end(3, value(2, 7))];
    assert_eq!(verdicts(&then(&read)), [Lost, Resurrected, Exact]);
    let in_turn = [&stored(1, 1)[..], &stored(2, 2), &synced(9)].concat();
    assert_eq!(verdicts(&in_turn), [Lost, Resurrected, Exact]);
}

#[test]
fn an_eviction_explains_a_miss_of_what_it_may_concern() {
    let one = [&stored(1, 1)[..], &synced(2)].concat();
    let gone = [&one[..], &[evicted(5)]].concat();
    assert_eq!(verdicts(&gone), [Legal, Legal, Resurrected]);
    // The put began when generation 5 had been seen, so this was not its own eviction.
    let other = Event::Evicted {
        key: 1,
        generation: 5,
    };
    let of_former = [&[other][..], &one, &[evicted(4)]].concat();
    assert_eq!(verdicts(&of_former), [Lost, Exact, Resurrected]);
    let read = [get(3), end(3, value(1, 6))];
    let of_another = [&one[..], &read, &[evicted(7)]].concat();
    assert_eq!(verdicts(&of_another), [Lost, Exact, Resurrected]);
    let of_another_as_read_later = [&one[..], &[evicted(5)], &read].concat();
    assert_eq!(
        verdicts(&of_another_as_read_later),
        [Lost, Exact, Resurrected]
    );
    // An evicted value does not come back as an older version, nor after a close.
    let replaced = [&gone[..], &stored(3, 2), &synced(4)].concat();
    assert_eq!(verdicts(&replaced), [Lost, Resurrected, Exact]);
    let last = [get(LAST_READS), end(LAST_READS, Answer::Absent)];
    let closed = [of(9, What::Close), end(9, Answer::Done)];
    let closed = [&gone[..], &last, &closed].concat();
    assert_eq!(verdicts(&closed), [Exact, Resurrected, Resurrected]);
}

/// Contract C2: the slot of a value is not reused before the change that replaced it is durable.
#[test]
fn where_only_durable_changes_are_acknowledged_a_replaced_value_stays() {
    let mut oracle = Oracle::new(1);
    oracle.begin(true, false);
    let events = [
        durable_put(1, 1),
        end(1, Answer::Written),
        durable_put(2, 2),
    ];
    events.into_iter().for_each(|event| oracle.hear(event));
    let verdicts = FOUND.map(|found| oracle.judge(0, found));
    assert_eq!(verdicts, [Lost, Legal, Legal]);
    oracle.begin(false, false);
    assert_eq!(oracle.judge(0, None), Legal);
}

#[test]
fn results_are_judged_by_what_may_have_been_then() {
    let read = |answer| [get(5), end(5, answer)];
    let one = stored(1, 1);
    let then = |more: &[Event]| [&one[..], more].concat();
    assert_eq!(wrong(&then(&read(value(1, 3)))), 0);
    assert_eq!(wrong(&then(&read(value(2, 3)))), 1, "never put");
    assert_eq!(wrong(&then(&read(Answer::Absent))), 1, "not evicted");
    assert_eq!(wrong(&read(Answer::Present)), 1, "not there");
    let two = then(&stored(2, 2));
    assert_eq!(wrong(&[&two[..], &read(value(1, 3))].concat()), 1, "over");
    let overlapping = [get(5), put(2, 2), end(2, Answer::Written)];
    let overlapping = then(&[&overlapping[..], &[end(5, value(1, 3))]].concat());
    assert_eq!(wrong(&overlapping), 0);
    // The report of an eviction may come after the miss, but not after the end.
    let late = then(&[&read(Answer::Absent)[..], &[evicted(3)]].concat());
    assert_eq!(wrong(&late), 0);
    let evicted_before = then(&[&[evicted(3)][..], &read(value(1, 3))].concat());
    assert_eq!(wrong(&evicted_before), 1, "read after its eviction");
    let generations = [&read(value(1, 3))[..], &read(value(1, 4))].concat();
    assert_eq!(wrong(&then(&generations)), 1, "one put has one generation");
    let kept = [begin(2, true, false, &[(0, 2)]), end(2, Answer::Written)];
    assert_eq!(wrong(&then(&kept)), 1, "stored although it was to keep");
    let order = then(&[&[put(2, 2)][..], &[end(2, Answer::Superseded)]].concat());
    assert_eq!(wrong(&order), 1, "overtaken by nothing");
    assert_eq!(wrong(&then(&[put(2, 2)])), 1, "never ended");
}

/// The second put of a batch keeps the first, even if a remove overtook that one immediately.
#[test]
fn the_same_key_twice_in_a_batch() {
    let both = begin(1, true, false, &[(0, 1), (0, 2)]);
    let answers = vec![Answer::Superseded, Answer::Existed];
    let ended = Event::End { op: 1, answers };
    let removed = [remove(2), end(2, Answer::Absent)];
    let events = [&[both][..], &removed, &[ended]].concat();
    assert_eq!(wrong(&events), 0);
    assert_eq!(verdicts(&events), [Exact, Resurrected, Resurrected]);
}

/// A put was superseded by one that was refused and had no result yet when the process was killed: the key was absent, and
/// the oracle demanded the value of the refused one. A read of the absent key in between had no explanation either.
#[test]
fn a_put_under_way_may_have_been_refused() {
    let superseded = [
        put(1, 1),
        durable_put(2, 2),
        end(2, Answer::Superseded),
        get(3),
        end(3, Answer::Absent),
    ];
    for (refuses, absent) in [(false, Lost), (true, Legal)] {
        let mut oracle = Oracle::new(2);
        oracle.begin(true, refuses);
        superseded
            .iter()
            .cloned()
            .for_each(|event| oracle.hear(event));
        assert_eq!(
            FOUND.map(|found| oracle.judge(0, found)),
            [absent, Exact, Resurrected]
        );
        oracle.hear(end(1, Answer::NotAdmitted));
        oracle.ended_whole();
        assert_eq!(oracle.wrong, [""; 0]);
        assert_eq!(oracle.judge(0, None), Exact);
    }
    // A put of a key that has a value is not refused.
    let mut oracle = Oracle::new(2);
    oracle.begin(true, true);
    let [begin, end] = [durable_put(1, 1), end(1, Answer::Written)];
    [begin, end, put(2, 2)]
        .into_iter()
        .for_each(|event| oracle.hear(event));
    assert_eq!(
        FOUND.map(|found| oracle.judge(0, found)),
        [Lost, Legal, Legal]
    );
}
