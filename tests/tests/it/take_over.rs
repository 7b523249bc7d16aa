//! Tests of concurrent openings for writing, paused before a chosen write, and with bad fixed blocks. `two_hosts.rs`
//! has every interleaving of two plain openings; here are those with a start-empty, a format, the same keys.

#![expect(
    clippy::print_stdout,
    reason = "a test that fails shows what each opening saw"
)]

use std::cell::Cell;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use rb_core::{OpenError, Store};
use rb_io::OpKind;
use rb_testkit::{MemDevice, Moment};

use crate::support::{Sim, key, value};

thread_local! {
    static PAUSES: Cell<bool> = const { Cell::new(false) };
}

fn image() -> Vec<u8> {
    let sim = Sim::with_ring(8, 64);
    for round in 0..2 {
        let store = sim.open();
        store.put(&key(9), &value(9 + round, 500)).unwrap();
        store.checkpoint().unwrap();
        store.sync().unwrap();
        drop(store);
    }
    sim.device.live_image()
}

/// Opens A; before its first write for which `at` returns true, runs `b`.
fn next_to<T: Send>(
    at: fn(u64) -> bool,
    a_empty: bool,
    b: impl FnOnce(&Sim) -> T + Send,
) -> (Sim, Result<Store, OpenError>, T) {
    let device = MemDevice::from_image(&image());
    let (reached, wait_reached) = channel();
    let (go, wait_go) = channel::<()>();
    let wait_go = Mutex::new(wait_go);
    let reached = Mutex::new(reached);
    device.observe(move |moment, ops| {
        if moment == Moment::Before
            && PAUSES.get()
            && ops.iter().any(|op| op.op == OpKind::Write && at(op.offset))
        {
            PAUSES.set(false);
            reached.lock().unwrap().send(()).unwrap();
            wait_go.lock().unwrap().recv().unwrap();
        }
    });
    let sim = Sim::on(device);
    let (a, b) = std::thread::scope(|scope| {
        let sim = &sim;
        let a = scope.spawn(move || {
            PAUSES.set(true);
            sim.try_open(|options| {
                options.random = Arc::new(rb_core::SeededRandom::new(171));
                options.start_empty = a_empty;
            })
        });
        wait_reached.recv().unwrap();
        let b = b(sim);
        go.send(()).unwrap();
        (a.join().unwrap(), b)
    });
    (sim, a, b)
}

fn incarnation(at: u64) -> bool {
    (4096..12288).contains(&at)
}

fn open_b(sim: &Sim, empty: bool) -> Store {
    sim.try_open(|options| {
        options.random = Arc::new(rb_core::SeededRandom::new(272));
        options.start_empty = empty;
    })
    .unwrap()
}

fn is(store: &Store, k: u64, v: Option<u64>, when: &str) -> bool {
    let found = store.get(&key(k)).unwrap();
    let right = found.as_deref() == v.map(|v| value(v, 500)).as_deref();
    if !right {
        println!(
            "WRONG {when}: key {k}: found {:?}",
            found.map(|f| (0..300).find(|n| f[..] == value(*n, 500)[..]))
        );
    }
    right
}

/// Both took the same number, so generations repeated: a remove found a higher one and did nothing.
#[test]
fn same_number_same_generations() {
    for removes in [true, false] {
        let (sim, a, _b) = next_to(incarnation, false, |sim| {
            let b = open_b(sim, false);
            for v in 1..4 {
                b.put(&key(1), &value(v, 500)).unwrap();
            }
            b.sync().unwrap();
            b
        });
        let a = match a {
            Ok(a) => a,
            Err(why) => {
                println!("A refused: {why}");
                continue;
            }
        };
        let mut ok = is(&a, 1, Some(3), "in A");
        let done = if removes {
            format!("{:?}", a.remove(&key(1)))
        } else {
            format!(
                "{:?}",
                a.remove(&key(1))
                    .and_then(|_| a.put(&key(1), &value(50, 500)))
            )
        };
        let synced = a.sync();
        println!("removes {removes}: A did {done}, synced {synced:?}");
        let expected = (!removes).then_some(50);
        ok &= is(&a, 1, expected, "in A after");
        match sim.crash().try_open(|_| {}) {
            Ok(after) => {
                println!("{:?}", after.recovery().lost_metadata);
                ok &= is(&after, 1, expected, "after a crash");
            }
            Err(why) => {
                println!("after a crash: {why}");
                ok = false;
            }
        }
        assert!(ok, "removes {removes}");
    }
}

/// A opened while B emptied the store, and overwrote B's block of the later epoch: what both then acknowledged was
/// lost.
#[test]
fn opening_over_a_start_empty() {
    let (sim, a, b) = next_to(incarnation, false, |sim| {
        let b = open_b(sim, true);
        b.put(&key(1), &value(1, 500)).unwrap();
        b.sync().unwrap();
        b
    });
    let a = match a {
        Ok(a) => a,
        Err(why) => {
            println!("A refused: {why}");
            return;
        }
    };
    println!(
        "B now: {:?}",
        b.put(&key(2), &value(2, 500)).and_then(|_| b.sync())
    );
    println!(
        "epochs A {} B {}",
        a.superblock().identity.epoch,
        b.superblock().identity.epoch
    );
    let mut ok = is(&a, 1, Some(1), "acknowledged by B, in the winner A");
    a.put(&key(3), &value(3, 500)).unwrap();
    println!("A syncs: {:?}", a.sync());
    let after = sim.crash().open();
    println!(
        "after: epoch {}, {:?}",
        after.superblock().identity.epoch,
        after.recovery().lost_metadata
    );
    ok &= is(&after, 3, Some(3), "acknowledged by A, after a crash");
    assert!(ok);
}

/// A emptied the store while B, of the former epoch, checkpointed over A's base.
#[test]
fn start_empty_loses_its_base_to_another() {
    let (sim, a, _b) = next_to(incarnation, true, |sim| {
        let b = open_b(sim, false);
        b.put(&key(1), &value(1, 500)).unwrap();
        b.checkpoint().unwrap();
        b
    });
    let a = match a {
        Ok(a) => a,
        Err(why) => {
            println!("A refused: {why}");
            return;
        }
    };
    a.put(&key(3), &value(3, 500)).unwrap();
    a.sync().unwrap();
    let after = sim
        .crash()
        .open_with(|o| o.on_lost_metadata = rb_core::OnLostMetadata::Empty);
    println!(
        "after: epoch {}, {:?}",
        after.superblock().identity.epoch,
        after.recovery().lost_metadata
    );
    assert!(is(&after, 3, Some(3), "acknowledged by A, after a crash"));
}

/// Both emptied the store into the same epoch: what one acknowledged came back after a crash of the other.
#[test]
fn two_start_empty() {
    let mut ok = true;
    for puts in [false, true] {
        let (sim, a, _b) = next_to(incarnation, true, |sim| {
            let b = open_b(sim, true);
            for n in 1..4 {
                b.put(&key(n), &value(n, 500)).unwrap();
                b.sync().unwrap();
            }
            b
        });
        let a = match a {
            Ok(a) => a,
            Err(why) => {
                println!("A refused: {why}");
                continue;
            }
        };
        ok &= is(&a, 1, None, "in A");
        if puts {
            a.put(&key(5), &value(5, 500)).unwrap();
            a.sync().unwrap();
        }
        match sim.crash().try_open(|_| {}) {
            Ok(after) => {
                println!("after: {:?}", after.recovery().lost_metadata);
                if puts {
                    ok &= is(&after, 5, Some(5), "A's, after a crash");
                }
                ok &= is(&after, 1, None, "B's, after a crash");
            }
            Err(why) => {
                println!("after a crash: {why}");
                ok = false;
            }
        }
    }
    assert!(ok);
}

/// A forged or stray incarnation block of a far epoch was taken for a start-empty: the superblocks were rewritten with
/// a number that no decoder accepts.
#[test]
fn far_epoch() {
    let mut ok = true;
    for epoch in [5, 1 << 40, 1 << 62, (1 << 62) + 1, u64::MAX - 1, u64::MAX] {
        for read_only in [true, false] {
            let sim = Sim::on(MemDevice::from_image(&image()));
            let mut identity = sim.open_with(|o| o.read_only = true).superblock().identity;
            identity.epoch = epoch;
            let block = rb_format::Incarnation {
                identity,
                number: 2,
                nonce: [7; 16],
            }
            .encode();
            sim.device.poke(4096, &block[..]);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let opened = sim.try_open(|o| o.read_only = read_only);
                opened
                    .map(|s| s.recovery().lost_metadata.clone())
                    .map_err(|e| e.to_string())
            }));
            let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                sim.try_open(|_| {})
                    .map(|s| s.superblock().sequence)
                    .map_err(|e| e.to_string())
            }));
            println!("epoch {epoch}, read only {read_only}: {done:?}; then {again:?}");
            ok &= done.is_ok() && again.as_ref().is_ok_and(Result::is_ok);
        }
    }
    assert!(ok);
}

/// A start-empty overwrote the only superblock copy that could be read, and a crash tore it. Once a store was seen
/// empty, the former epoch must not come back.
#[test]
fn start_empty_with_bad_blocks() {
    let mut wrong = 0;
    let image = image();
    for block in [0, 4096, 8192, rb_format::SUPERBLOCK_B_OFFSET] {
        for ops in [
            &[OpKind::Write][..],
            &[OpKind::Read],
            &[OpKind::Read, OpKind::Write],
        ] {
            let make = |img: &[u8]| {
                let device = MemDevice::from_image(img);
                for op in ops {
                    device.fail_always(*op, block..block + 4096, 5);
                }
                Sim::on(device)
            };
            for cut in 0..40 {
                let sim = make(&image);
                sim.device.cut_power_after(cut);
                let done = sim.try_open(|o| o.start_empty = true).is_ok();
                for seed in 0..6 {
                    let img = sim.crash_seeded(seed).device.live_image();
                    let second = make(&img);
                    let context =
                        format!("block {block}, {ops:?}, cut {cut}, seed {seed}, done {done}");
                    let old = match second.try_open(|_| {}) {
                        Ok(store) => {
                            let lost = store.recovery().lost_metadata.clone();
                            if lost.is_some() {
                                wrong += 1;
                                println!("{context}: {lost:?}");
                            }
                            let old = store.get(&key(9)).unwrap().is_some();
                            if old && done {
                                wrong += 1;
                                println!("{context}: old is back");
                            }
                            if old != (store.superblock().identity.epoch == 1) {
                                wrong += 1;
                                println!("{context}: epoch {}", store.superblock().identity.epoch);
                            }
                            old
                        }
                        Err(why) => {
                            wrong += 1;
                            println!("{context}: {why}");
                            continue;
                        }
                    };
                    if old {
                        continue;
                    }
                    // It was seen empty; now another opening, a crash, and rot of one superblock
                    // copy.
                    let img = second.crash_seeded(seed).device.live_image();
                    for copy in [0, rb_format::SUPERBLOCK_B_OFFSET] {
                        let third = make(&img);
                        third.device.poke(copy, &[0xA5; 64]);
                        if let Ok(store) = third.try_open(|_| {}) {
                            if store.get(&key(9)).unwrap().is_some() {
                                wrong += 1;
                                println!("{context}: old is back after rot of {copy}");
                            }
                        } else if block != copy
                            && block != 0
                            && block != rb_format::SUPERBLOCK_B_OFFSET
                        {
                            wrong += 1;
                            println!("{context}: does not open after rot of {copy}");
                        }
                    }
                }
                if done {
                    break;
                }
            }
        }
    }
    assert_eq!(wrong, 0);
}

/// One incarnation block is bad, with crashes in every opening, many times: it opens each time.
#[test]
fn a_bad_incarnation_block_and_crashes() {
    let mut wrong = 0;
    for block in [4096, 8192] {
        for ops in [
            &[OpKind::Write][..],
            &[OpKind::Read],
            &[OpKind::Read, OpKind::Write],
        ] {
            for from_new in [false, true] {
                let mut img = if from_new {
                    Sim::with_ring(8, 64).device.live_image()
                } else {
                    image()
                };
                for step in 0..60_u64 {
                    let device = MemDevice::from_image(&img);
                    for op in ops {
                        device.fail_always(*op, block..block + 4096, 5);
                    }
                    let sim = Sim::on(device);
                    let context = format!("block {block}, {ops:?}, new {from_new}, step {step}");
                    if step % 2 == 0 {
                        sim.device.cut_power_after(step / 2 % 14);
                    }
                    match sim.try_open(|_| {}) {
                        Ok(store) => {
                            let done = store
                                .put(&key(1), &value(step, 500))
                                .and_then(|_| store.sync());
                            if step % 2 == 1 && done.is_err() {
                                wrong += 1;
                                println!("{context}: {done:?}");
                            }
                            if store.recovery().lost_metadata.is_some() {
                                wrong += 1;
                                println!("{context}: {:?}", store.recovery().lost_metadata);
                            }
                        }
                        Err(why) => {
                            if step % 2 == 1 {
                                wrong += 1;
                                println!("{context}: {why}");
                            }
                        }
                    }
                    if step % 2 == 1 {
                        let c = sim.crash_seeded(step);
                        let s = c.try_open(|o| o.read_only = true);
                        if !s.is_ok_and(|s| is(&s, 1, Some(step), &context)) {
                            wrong += 1;
                        }
                    }
                    img = sim.crash_seeded(step).device.live_image();
                }
            }
        }
    }
    assert_eq!(wrong, 0);
}

/// A pauses before it writes the superblock of its new epoch; B starts empty too.
#[test]
fn late_superblock() {
    let (sim, a, _b) = next_to(
        |at| at == 0 || at == rb_format::SUPERBLOCK_B_OFFSET,
        true,
        |sim| {
            let b = open_b(sim, true);
            b.put(&key(1), &value(1, 500)).unwrap();
            b.sync().unwrap();
            b
        },
    );
    println!(
        "A: {:?}",
        a.map(|a| a.put(&key(2), &value(2, 500)).and_then(|_| a.sync()))
            .map_err(|e| e.to_string())
    );
    let after = sim.crash().open();
    println!(
        "epoch {} {:?}",
        after.superblock().identity.epoch,
        after.recovery().lost_metadata
    );
    assert!(is(&after, 1, Some(1), "B's"));
}

/// A opened while the device was formatted, and B opened the new store: A wrote its log into it.
#[test]
fn opening_over_a_format() {
    use rb_core::{ClassRequest, FormatOptions, SeededRandom, Share, format};
    let (sim, a, b) = next_to(incarnation, false, |sim| {
        let classes = vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(8),
        }];
        let options = FormatOptions {
            key_len_max: 1024,
            log_bytes: Some(64 * 4096),
            formatted_at: 0,
            random: Arc::new(SeededRandom::new(2)),
            ..FormatOptions::new(sim.engine(), classes)
        };
        format(&options).unwrap();
        let b = open_b(sim, false);
        b.put(&key(1), &value(1, 500)).unwrap();
        b.sync().unwrap();
        b
    });
    println!(
        "A: {:?}",
        a.map(|a| {
            a.put(&key(2), &value(2, 500))
                .and_then(|_| a.sync())
                .and_then(|()| a.checkpoint())
        })
        .map_err(|e| e.to_string())
    );
    println!(
        "B: {:?}",
        b.put(&key(3), &value(3, 500)).and_then(|_| b.sync())
    );
    let after = sim
        .crash()
        .try_open(|o| o.on_lost_metadata = rb_core::OnLostMetadata::Empty);
    match after {
        Ok(after) => {
            println!("{:?}", after.recovery().lost_metadata);
            assert!(is(&after, 1, Some(1), "B's"));
        }
        Err(why) => panic!("{why}"),
    }
}

/// A, late, overwrote the block of a third opening and was refused. The second one, which had been opened over, then
/// found its own number to be the highest again, and overwrote what the third had acknowledged.
#[test]
fn a_late_block_revives_no_former_opening() {
    let (sim, a, (former, last)) = next_to(incarnation, false, |sim| {
        let open = |seed| {
            let random = Arc::new(rb_core::SeededRandom::new(seed));
            sim.open_with(|options| options.random = random)
        };
        drop(open(1));
        let former = open(2);
        let last = open(3);
        last.put(&key(1), &value(1, 500)).unwrap();
        last.sync().unwrap();
        last.put(&key(1), &value(2, 500)).unwrap();
        last.sync().unwrap();
        (former, last)
    });
    assert!(matches!(a, Err(OpenError::Contended { .. })), "{a:?}");
    let put = former.put(&key(2), &value(2, 500));
    let synced = put.and_then(|_| former.sync());
    assert!(synced.is_err(), "the former one was acknowledged");
    assert!(former.checkpoint().is_err());
    drop(last);
    let after = sim.crash().open();
    assert_eq!(after.recovery().lost_metadata, None);
    assert!(is(&after, 1, Some(2), "the last one's, after a crash"));
}

/// With one superblock copy bad, only its incarnation block recorded the epoch that B began. A, late, overwrote that
/// block: the former epoch was back, and what B had acknowledged was lost.
#[test]
fn a_start_empty_with_a_bad_superblock_copy_outlives_a_late_block() {
    for copy in [0, rb_format::SUPERBLOCK_B_OFFSET] {
        for a_empty in [false, true] {
            let (sim, a, _b) = next_to(incarnation, a_empty, |sim| {
                sim.device.fail_always(OpKind::Write, copy..copy + 4096, 5);
                sim.device.fail_always(OpKind::Read, copy..copy + 4096, 5);
                let b = open_b(sim, true);
                for v in 1..4 {
                    b.put(&key(1), &value(v, 500)).unwrap();
                    b.sync().unwrap();
                }
                b
            });
            assert!(matches!(a, Err(OpenError::Contended { .. })), "{a:?}");
            let after = sim.crash().open();
            assert_eq!(after.recovery().lost_metadata, None);
            assert!(is(&after, 1, Some(3), "B's, after a crash"));
            assert!(is(&after, 9, None, "of the former epoch"));
        }
    }
}

/// An opening found an interrupted start-empty, and began again because a late opening of the former epoch had
/// overwritten it in the meantime. It kept the epoch that no longer existed, and dropped what the late one had
/// acknowledged.
#[test]
fn an_opening_that_restarts_discards_the_epoch_it_saw() {
    let copies = [0, rb_format::SUPERBLOCK_B_OFFSET];
    let before = image();
    let emptied = Sim::on(MemDevice::from_image(&before));
    drop(open_b(&emptied, true));
    for copy in copies.map(|at| at as usize) {
        emptied.device.poke(copy as u64, &before[copy..copy + 4096]);
    }
    let late = Sim::on(MemDevice::from_image(&before));
    let store = late.open();
    store.put(&key(1), &value(1, 500)).unwrap();
    store.checkpoint().unwrap();
    store.sync().unwrap();
    let header = rb_format::base_header_offsets(&store.superblock().base_a)[0];
    drop(store);
    let after = late.device.live_image();

    let sim = Sim::on(MemDevice::from_image(&emptied.device.live_image()));
    let seen = std::sync::atomic::AtomicUsize::new(0);
    let device = Arc::clone(&sim.device);
    sim.device.observe(move |moment, ops| {
        let reads = ops
            .iter()
            .any(|op| op.op == OpKind::Read && op.offset == header);
        // The first reading shows the later epoch, the second one is of recovery.
        if moment == Moment::Before
            && reads
            && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1
        {
            device.poke(0, &after);
        }
    });
    let store = sim.open();
    assert_eq!(store.superblock().identity.epoch, 1);
    assert_eq!(store.recovery().lost_metadata, None);
    assert!(is(&store, 1, Some(1), "the late one's"));
}
