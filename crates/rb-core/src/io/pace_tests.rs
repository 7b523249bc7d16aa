//! A service and readers on a drive that is the bottleneck, in simulated time, so that results do
//! not depend on the machine.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rb_io::OpKind;
use rb_testkit::values::next_number;
use rb_testkit::{DriveSpeed, DriveTimes};

use super::*;
use crate::clock::ManualClock;

/// Bytes of one read.
const VALUE_BYTES: u64 = 68 << 10;

const SECONDS: u64 = 4;

/// The readers and their drive.
struct World<'a> {
    load: &'a Load,
    clock: &'a ManualClock,
    drive: DriveTimes,
    /// Time of each reader's next action, and since when it waits for the drive; `None` while it
    /// pauses.
    next: BinaryHeap<Reverse<(Duration, u64, Option<Duration>)>>,
    pause: Duration,
    random: u64,
    took: Vec<Duration>,
}

impl World<'_> {
    /// Runs the readers up to `moment` and sets the clock to it.
    fn run_until(&mut self, moment: Duration) {
        while let Some(&Reverse((at, reader, since))) = self.next.peek()
            && at <= moment
        {
            self.next.pop();
            self.set_clock(at);
            let next = match since {
                Some(since) => {
                    self.load.end();
                    self.took.push(at - since);
                    (at + self.draw_pause(), reader, None)
                }
                None => {
                    self.load.begin();
                    let ends = self.drive.ends(at, OpKind::Read, VALUE_BYTES);
                    (ends, reader, Some(at))
                }
            };
            self.next.push(Reverse(next));
        }
        self.set_clock(moment);
    }

    fn set_clock(&self, now: Duration) {
        self.clock.advance(now.saturating_sub(self.clock.now()));
    }

    /// Exponentially distributed: arrivals are random.
    fn draw_pause(&mut self) -> Duration {
        let drawn = (1 + next_number(&mut self.random) % 1_000_000) as f64 / 1e6;
        self.pause.mul_f64(-drawn.ln())
    }
}

/// Work of a service: number and size of its requests, in a turn and at full speed.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    op: OpKind,
    turn: (usize, u64),
    full: (usize, u64),
}

const KIB: u64 = 1 << 10;

const SERVICES: [Work; 5] = [
    Work {
        name: "scrub",
        op: OpKind::Read,
        turn: (1, VALUE_BYTES),
        full: (16, VALUE_BYTES),
    },
    Work {
        name: "validation",
        op: OpKind::Read,
        turn: (TURN_REQUESTS, 4 * KIB),
        full: (256, 4 * KIB),
    },
    Work {
        name: "discards",
        op: OpKind::Discard,
        turn: (1, VALUE_BYTES),
        full: (8, VALUE_BYTES),
    },
    Work {
        name: "large discards",
        op: OpKind::Discard,
        turn: (1, TURN_DISCARD_BYTES),
        full: (8, 128 << 20),
    },
    Work {
        name: "checkpoint",
        op: OpKind::Write,
        turn: (1, TURN_BYTES as u64),
        full: (1, KIB * KIB),
    },
];

/// The p99 latency of readers and the service's share of the time.
struct Outcome {
    p99: Duration,
    /// Fraction of the time in which a turn was in progress.
    share: f64,
}

/// Simulates readers that pause for `pause` on average, and a service that yields (true) or runs at
/// full speed.
fn run(readers: u64, pause: Duration, service: Option<(Work, bool)>) -> Outcome {
    let (load, clock) = (Load::default(), ManualClock::new());
    let seed = 11;
    let world = RefCell::new(World {
        load: &load,
        clock: &clock,
        drive: DriveTimes::new(DriveSpeed::ssd(1)),
        next: (0..readers)
            .map(|reader| Reverse((Duration::ZERO, reader, None)))
            .collect(),
        pause,
        random: seed,
        took: Vec::new(),
    });
    let end = Duration::from_secs(SECONDS);
    let mut busy = Duration::ZERO;
    if let Some((work, yields)) = service {
        let wait = |time| {
            let until = clock.now() + time;
            world.borrow_mut().run_until(until);
            true
        };
        let mut pace = match yields {
            true => Pace::yielding(&load, &clock, &wait),
            false => Pace::full(),
        };
        world.borrow_mut().run_until(Duration::from_millis(1));
        while clock.now() < end {
            let began = clock.now();
            pace.begin();
            let (requests, bytes) = match pace.yields() {
                true => work.turn,
                false => work.full,
            };
            let mut world = world.borrow_mut();
            let ends = (0..requests).map(|_| world.drive.ends(began, work.op, bytes));
            let ends = ends.max().unwrap();
            world.run_until(ends);
            drop(world);
            busy += ends - began;
            pace.rest();
        }
    }
    let mut world = world.into_inner();
    world.run_until(end);
    world.took.sort_unstable();
    assert!(world.took.len() > 1000, "{}", world.took.len());
    Outcome {
        p99: world.took[world.took.len() * 99 / 100],
        share: busy.as_secs_f64() / clock.now().as_secs_f64(),
    }
}

/// Regression test: a checkpoint, a scrub, a validation or discards made the p99 of gets on a busy
/// drive up to ten times as long.
#[test]
fn a_service_adds_at_most_a_quarter_to_the_p99_of_readers() {
    // Offered load: four fifths of the drive's capacity, all of it, and far more.
    for (readers, pause) in [(12, 360), (16, 0), (64, 0)] {
        let pause = Duration::from_micros(pause);
        let without = run(readers, pause, None).p99;
        for work in SERVICES {
            let with = run(readers, pause, Some((work, true)));
            let ratio = with.p99.as_secs_f64() / without.as_secs_f64();
            let case = format!(
                "{readers} readers, {}: p99 {without:?}, {:?} with it, x{ratio:.2}; its share {:.3}",
                work.name, with.p99, with.share
            );
            assert!(ratio <= 1.25, "{case}");
            // The service takes at most a tenth of the time and does not starve.
            assert!((0.09..=0.101).contains(&with.share), "{case}");
        }
    }
}

/// Shows that the model detects a service that does not yield.
#[test]
fn a_service_at_full_speed_adds_more_than_that() {
    let pause = Duration::from_micros(360);
    let without = run(12, pause, None).p99;
    for work in SERVICES {
        let with = run(12, pause, Some((work, false))).p99;
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        let case = format!(
            "{}: p99 {without:?}, {with:?} with it, x{ratio:.2}",
            work.name
        );
        assert!(ratio > 1.25, "{case}");
    }
}

#[test]
fn a_service_neither_rests_nor_works_in_turns_while_no_caller_uses_the_device() {
    let (load, clock) = (Load::default(), ManualClock::new());
    let wait = |_| panic!("it rests");
    let mut pace = Pace::yielding(&load, &clock, &wait);
    pace.begin();
    clock.advance(Duration::from_secs(1));
    assert!(!pace.yields());
    pace.rest();
    // A call that ended long ago is noticed late, and counts for a while only.
    drop(load.using());
    assert!(pace.yields());
    clock.advance(QUIET_AFTER);
    assert!(!pace.yields());
    pace.rest();
    let using = load.using();
    clock.advance(Duration::from_hours(1));
    assert!(pace.yields());
    drop(using);
}

#[test]
fn a_service_that_is_to_hurry_rests_no_more() {
    let (load, clock) = (Load::default(), ManualClock::new());
    let rests = RefCell::new(Vec::new());
    let wait = |time| {
        rests.borrow_mut().push(time);
        rests.borrow().len() < 3
    };
    let _using = load.using();
    let mut pace = Pace::yielding(&load, &clock, &wait);
    for millis in [1, 1000, 2, 3] {
        assert_eq!(pace.yields(), rests.borrow().len() < 3);
        pace.begin();
        clock.advance(Duration::from_millis(millis));
        pace.rest();
    }
    let expected = [
        Duration::from_millis(9),
        REST_MAX,
        Duration::from_millis(18),
    ];
    assert_eq!(*rests.borrow(), expected);
}
