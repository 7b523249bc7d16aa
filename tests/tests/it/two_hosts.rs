//! Tests of two hosts that open one device for writing at the same time (C8): no lock of one machine excludes the
//! other.
//!
//! Each host is a thread that opens the store, puts a key, syncs, and reports whether it was acknowledged. Before each
//! request to the device a thread waits for its turn. So an interleaving is a list of numbers: how many requests each
//! thread makes before the turn passes to the other. Reads of regions that neither host writes here (superblock, bases)
//! are not counted: where the turn passes among them makes no difference.

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use rb_io::OpKind;
use rb_testkit::{MemDevice, MemOp, Moment};

use crate::support::{Sim, is_long, key, range_of, slots_of, value};

thread_local! {
    static HOST: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The host whose turn it is, and the number of requests left in it.
struct Turns {
    /// The rest of the interleaving; when it is used up, host 0 runs to its end, then host 1.
    left: Vec<usize>,
    turn: usize,
    ended: [bool; 2],
    /// Requests so far, with the host that made each.
    trace: Vec<(usize, MemOp)>,
    /// Number of counted requests of each host.
    made: [usize; 2],
}

impl Turns {
    /// Passes the turn if it is used up, or its owner has ended.
    fn pass(&mut self) {
        while let Some(first) = self.left.first() {
            if *first > 0 && !self.ended[self.turn] {
                return;
            }
            self.left.remove(0);
            self.turn = 1 - self.turn;
        }
        if self.ended[self.turn] {
            self.turn = 1 - self.turn;
        }
    }
}

/// The turns, with the ranges that both hosts write to.
type Baton = Arc<(Mutex<Turns>, Condvar, Vec<Range<u64>>)>;

fn take_turn(baton: &Baton, ops: &[MemOp]) {
    let Some(host) = HOST.get() else { return };
    let (turns, changed, _) = &**baton;
    let mut turns = turns.lock().unwrap();
    for op in ops {
        turns.pass();
        while turns.turn != host {
            changed.notify_all();
            turns = changed.wait(turns).unwrap();
        }
        let is_shared =
            op.op != OpKind::Read || baton.2.iter().any(|range| range.contains(&op.offset));
        if let (true, Some(first)) = (is_shared, turns.left.first_mut()) {
            *first -= 1;
        }
        turns.made[host] += usize::from(is_shared);
        turns.trace.push((host, *op));
    }
}

/// Result of a host.
#[derive(Clone, Debug, Default)]
struct Outcome {
    opened: bool,
    /// Reason why the opening or the put was refused.
    refused: Option<String>,
    /// Number of requests on the device when its put was acknowledged as durable.
    acknowledged: Option<usize>,
    store: Option<Arc<rb_core::Store>>,
}

/// Counts of the interleavings that were run: requests of both, and whether both opened, or each alone.
#[derive(Default, Debug)]
struct Counts {
    runs: usize,
    requests: [usize; 2],
    opened: [usize; 3],
    contended: usize,
    acknowledged: usize,
    late: usize,
}

fn run(image: &[u8], shared: &[Range<u64>], interleaving: &[usize], counts: &mut Counts) {
    let device = MemDevice::from_image(image);
    let turns = Turns {
        left: interleaving.to_vec(),
        turn: 0,
        ended: [false; 2],
        trace: Vec::new(),
        made: [0; 2],
    };
    let baton: Baton = Arc::new((Mutex::new(turns), Condvar::new(), shared.to_vec()));
    let seen = baton.clone();
    device.observe(move |moment, ops| {
        if moment == Moment::Before {
            take_turn(&seen, ops);
        }
    });
    let sim = Sim::on(device);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let hosts = [0, 1].map(|host| {
            let (sim, baton) = (&sim, &baton);
            scope.spawn(move || {
                HOST.set(Some(host));
                let outcome = work(sim, host, baton);
                let mut turns = baton.0.lock().unwrap();
                turns.ended[host] = true;
                turns.pass();
                baton.1.notify_all();
                outcome
            })
        });
        hosts.map(|host| host.join().unwrap()).to_vec()
    });
    let mut turns = baton.0.lock().unwrap();
    let (trace, made) = (std::mem::take(&mut turns.trace), turns.made);
    drop(turns);
    for (host, made) in made.into_iter().enumerate() {
        counts.requests[host] = counts.requests[host].max(made);
    }
    judge(&sim, &outcomes, &trace, counts, interleaving);
}

fn work(sim: &Sim, host: usize, baton: &Baton) -> Outcome {
    let seed = host as u64 + 70;
    let opened = sim.try_open(|options| {
        options.random = Arc::new(rb_core::SeededRandom::new(seed));
        options.shards = Some(1);
    });
    let store = match opened {
        Ok(store) => store,
        Err(why) => {
            return Outcome {
                refused: Some(why.to_string()),
                ..Outcome::default()
            };
        }
    };
    let put = store.put(&key(host as u64), &value(host as u64, 500));
    let synced = put.and_then(|_| store.sync());
    let at = baton.0.lock().unwrap().trace.len();
    Outcome {
        opened: true,
        refused: synced.as_ref().err().map(ToString::to_string),
        acknowledged: synced.is_ok().then_some(at),
        store: Some(Arc::new(store)),
    }
}

/// Returns the position in the trace at which a host's nonce was durable: the flush after its incarnation block.
fn nonce_durable(trace: &[(usize, MemOp)], host: usize) -> Option<usize> {
    let is_block = |op: &MemOp| op.op == OpKind::Write && (4096..12288).contains(&op.offset);
    let written = trace
        .iter()
        .position(|(who, op)| *who == host && is_block(op))?;
    let flushed = trace[written..]
        .iter()
        .position(|(who, op)| *who == host && op.op == OpKind::Flush)?;
    Some(written + flushed)
}

fn judge(
    sim: &Sim,
    outcomes: &[Outcome],
    trace: &[(usize, MemOp)],
    counts: &mut Counts,
    interleaving: &[usize],
) {
    counts.runs += 1;
    let opened = outcomes.iter().filter(|outcome| outcome.opened).count();
    counts.opened[opened] += 1;
    let refused = outcomes.iter().filter(|outcome| !outcome.opened);
    for why in refused.filter_map(|outcome| outcome.refused.as_ref()) {
        assert!(why.contains("another host opens the store"), "{why}");
        counts.contended += 1;
    }
    let nonces = [0, 1].map(|host| nonce_durable(trace, host));
    // The winner opened, and its nonce was the last to become durable.
    let winner = [0, 1]
        .into_iter()
        .filter(|host| outcomes[*host].opened)
        .max_by_key(|host| nonces[*host]);
    let Some(winner) = winner else { return };
    let (won, lost) = (&outcomes[winner], &outcomes[1 - winner]);
    let taken = nonces[winner].unwrap();
    let context = || format!("{interleaving:?}: winner {winner}, {outcomes:?}, {trace:#?}");
    let late = trace[taken..]
        .iter()
        .any(|(who, op)| *who != winner && op.op == OpKind::Write);
    counts.late += usize::from(late);
    if let Some(at) = lost.acknowledged {
        counts.acknowledged += 1;
        // Its last request was the read that showed no other opening.
        let last = trace[..at]
            .iter()
            .rposition(|(who, _)| *who != winner)
            .unwrap();
        assert!(
            last < taken,
            "acknowledged after the winner's nonce: {}",
            context()
        );
    }
    let seen = |store: &rb_core::Store, host: usize| {
        let found = store.get(&key(host as u64)).unwrap();
        if let Some(found) = &found {
            assert_eq!(
                found[..],
                value(host as u64, 500)[..],
                "wrong bytes: {}",
                context()
            );
        }
        found.is_some()
    };
    let winner_store = won.store.as_ref().unwrap();
    let must = [0, 1].map(|host| outcomes[host].acknowledged.is_some());
    for host in [0, 1] {
        let found = seen(winner_store, host);
        assert!(
            found || !must[host] || late,
            "missing in the winner: {}",
            context()
        );
    }
    for crashed in [sim.crash(), sim.crash_seeded(interleaving.len() as u64)] {
        let store = crashed.open();
        for host in [0, 1] {
            let found = seen(&store, host);
            assert!(
                found || !must[host] || late,
                "missing after a crash: {}",
                context()
            );
        }
    }
}

/// Makes a store that was used and crashed, so that opening must find the end of its log.
fn image() -> (Vec<u8>, Vec<Range<u64>>) {
    let sim = Sim::with_ring(8, 64);
    let store = sim.open();
    store.put(&key(9), &value(9, 500)).unwrap();
    store.sync().unwrap();
    let rings = store.superblock().log_rings().map(range_of);
    let shared = [4096..12288, slots_of(&store)]
        .into_iter()
        .chain(rings)
        .collect();
    drop(store);
    (sim.device.live_image(), shared)
}

/// Runs all interleavings in which the turn passes from one host to the other at most `switches` times, each time after
/// any number of requests that is a multiple of `step`.
fn every_interleaving(switches: usize, step: usize) -> Counts {
    let (image, shared) = image();
    let mut counts = Counts::default();
    // Alone, to learn how many requests there are.
    run(&image, &shared, &[1000], &mut counts);
    let most = counts.requests[0].max(counts.requests[1]);
    let mut interleaving = vec![1; switches];
    loop {
        run(&image, &shared, &interleaving, &mut counts);
        let Some(at) = interleaving.iter().rposition(|count| count + step <= most) else {
            return counts;
        };
        interleaving[at] += step;
        interleaving[at + 1..].fill(1);
    }
}

/// Both read the incarnation blocks, then the first opened and wrote; the second took the same number and overwrote the
/// first one's log, and acknowledged entries were lost.
#[test]
fn of_two_hosts_that_open_at_the_same_time_one_wins_and_keeps_what_both_acknowledged() {
    let step = if is_long() { 1 } else { 4 };
    let counts = every_interleaving(3, step);
    println!("{counts:?}");
    assert!(
        counts.opened[2] > 0 && counts.contended > 0 && counts.acknowledged > 0,
        "{counts:?}"
    );
}
