// UNSAFETY: adopting memory is unsafe by nature, and its contract is tested here.
#![expect(unsafe_code, reason = "Arena::adopt")]
//! Arenas: all or none, in arrival order, and memory is kept as long as anyone may use it.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Arena, ArenaError, PAGE_BYTES};
use crate::patience::Patience;

const PAGE: usize = PAGE_BYTES;
const NOT_LONG: Duration = Duration::from_millis(40);
const LONG: Duration = Duration::from_secs(30);

#[test]
fn ranges_are_whole_pages_and_come_back() {
    let arena = Arena::allocate(3 * PAGE - 5).unwrap();
    assert_eq!(arena.bytes(), 3 * PAGE);
    let mut one = arena.take(1).unwrap();
    let two = arena.take(PAGE + 1).unwrap();
    assert_eq!(
        (one.len(), two.len(), arena.available()),
        (PAGE, 2 * PAGE, 0)
    );
    assert_eq!(one.as_ptr().addr() % PAGE, 0);
    assert!(one.iter().all(|byte| *byte == 0), "fresh memory is zero");
    one.fill(7);
    assert!(two.iter().all(|byte| *byte == 0), "buffers do not overlap");
    assert!(arena.take(1).is_none() && arena.take(0).is_none());
    drop(one);
    assert_eq!(arena.available(), PAGE);
    assert_eq!(arena.take(1).unwrap().arena_offset(), 0);
}

#[test]
fn large_arenas_are_aligned_and_usable_to_the_end() {
    let arena = Arena::allocate((4 << 20) + PAGE).unwrap();
    assert_eq!(arena.as_ptr().addr() % (2 << 20), 0);
    let mut all = arena.take(arena.bytes()).unwrap();
    *all.last_mut().unwrap() = 9;
    assert_eq!(all[all.len() - 1], 9);
}

#[test]
fn many_are_taken_all_or_none() {
    let arena = Arena::allocate(4 * PAGE).unwrap();
    let held = arena.take(2 * PAGE).unwrap();
    let refused = arena
        .take_many(&[PAGE, 2 * PAGE], &mut Patience::new(NOT_LONG))
        .unwrap_err();
    assert!(
        matches!(refused, ArenaError::TimedOut { wanted, available, .. }
        if wanted == 3 * PAGE && available == 2 * PAGE),
        "{refused}"
    );
    assert_eq!(
        arena.available(),
        2 * PAGE,
        "nothing is kept by the one that failed"
    );
    assert!(arena.take(PAGE).is_some(), "nor does it stay in the line");
    drop(held);
    let taken = arena
        .take_many(&[PAGE, 1, 2 * PAGE], &mut Patience::new(Duration::ZERO))
        .unwrap();
    assert_eq!(
        taken
            .iter()
            .map(super::super::buffer::Buffer::len)
            .collect::<Vec<_>>(),
        [PAGE, PAGE, 2 * PAGE]
    );
    assert!(
        arena
            .take_many(&[], &mut Patience::new(Duration::ZERO))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn more_than_the_arena_is_refused_immediately() {
    let arena = Arena::allocate(4 * PAGE).unwrap();
    let started = Instant::now();
    let refused = arena
        .take_many(&[3 * PAGE, PAGE + 1], &mut Patience::new(LONG))
        .unwrap_err();
    assert!(started.elapsed() < LONG);
    let words = refused.to_string();
    assert!(
        words.contains("20480") && words.contains("16384"),
        "{words}"
    );
    assert!(
        arena
            .take_many(&[usize::MAX], &mut Patience::new(LONG))
            .is_err()
    );
    assert!(
        arena
            .take_many(&[PAGE, 0], &mut Patience::new(LONG))
            .is_err()
    );
}

#[test]
fn two_batches_do_not_starve_each_other() {
    let arena = Arena::allocate(8 * PAGE).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..if cfg!(miri) { 2 } else { 200 } {
                    // Each needs more than half of the arena: if ranges were taken piecemeal, two
                    // would deadlock.
                    drop(
                        arena
                            .take_many(&[PAGE; 5], &mut Patience::new(LONG))
                            .unwrap(),
                    );
                }
            });
        }
    });
    assert_eq!(arena.available(), arena.bytes());
}

#[test]
fn a_large_request_is_not_starved_by_small_ones() {
    let arena = Arena::allocate(4 * PAGE).unwrap();
    let first = arena.take(PAGE).unwrap();
    std::thread::scope(|scope| {
        let large = scope.spawn(|| {
            arena
                .take_many(&[4 * PAGE], &mut Patience::new(LONG))
                .map(drop)
        });
        while arena.inner.state.lock().line.is_empty() {
            std::thread::yield_now();
        }
        // Three pages are free, but they are reserved for the first caller in the queue.
        assert!(arena.take(PAGE).is_none());
        let small = scope.spawn(|| arena.take_many(&[PAGE], &mut Patience::new(LONG)).map(drop));
        while arena.inner.state.lock().line.len() < 2 {
            std::thread::yield_now();
        }
        std::thread::sleep(NOT_LONG);
        assert!(
            !small.is_finished(),
            "the small request must not pass the large one"
        );
        drop(first);
        large.join().unwrap().unwrap();
        small.join().unwrap().unwrap();
    });
}

#[test]
fn named_ranges_do_not_overlap() {
    let arena = Arena::allocate(8 * PAGE).unwrap();
    let middle = arena.take_at(2 * PAGE, 2 * PAGE).unwrap();
    assert_eq!(middle.arena_offset(), 2 * PAGE);
    for (offset, len) in [(2, 1), (1, 2), (3, 4), (2, 2), (0, 8)] {
        let refused = arena.take_at(offset * PAGE, len * PAGE).unwrap_err();
        assert!(
            matches!(refused, ArenaError::Overlap { other_offset, other_len, .. }
            if (other_offset, other_len) == (2 * PAGE, 2 * PAGE)),
            "{refused}"
        );
    }
    assert!(matches!(
        arena.take_at(1, PAGE),
        Err(ArenaError::Misaligned { .. })
    ));
    assert!(matches!(
        arena.take_at(0, 9 * PAGE),
        Err(ArenaError::OutOfRange { .. })
    ));
    let high = usize::MAX - PAGE + 1;
    assert!(matches!(
        arena.take_at(high, PAGE),
        Err(ArenaError::OutOfRange { .. })
    ));
    let before = arena.take_at(0, 2 * PAGE).unwrap();
    drop((middle, before));
    assert_eq!(
        arena.take(8 * PAGE).unwrap().len(),
        8 * PAGE,
        "ranges join again"
    );
}

#[test]
fn a_buffer_in_io_is_taken_until_the_last_is_gone() {
    let arena = Arena::allocate(PAGE).unwrap();
    let mut buffer = arena.take(PAGE).unwrap();
    buffer.fill(5);
    let first = buffer.into_io();
    let second = first.clone();
    let first = first.into_buffer().unwrap_err();
    second.copy_from(PAGE - 2, &[8, 9]).unwrap();
    assert!(second.copy_from(PAGE - 1, &[8, 9]).is_err());
    assert!(second.copy_to(usize::MAX, &mut [0]).is_err());
    drop(second);
    let buffer = first.into_buffer().unwrap();
    assert_eq!(buffer[PAGE - 3..], [5, 8, 9]);
    let io = buffer.into_io();
    drop(io.clone());
    assert_eq!(arena.available(), 0);
    drop(io);
    assert_eq!(arena.available(), PAGE);
}

/// Records that it was dropped.
struct Owner(
    #[expect(dead_code, reason = "keeps the memory")] Arena,
    Arc<AtomicBool>,
);

impl Drop for Owner {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
    }
}

#[test]
fn adopted_memory_keeps_its_owner() {
    let gone = Arc::new(AtomicBool::new(false));
    let lender = Arena::allocate(4 * PAGE).unwrap();
    let start = NonNull::new(lender.as_ptr()).unwrap();
    let owner: Box<dyn Any + Send + Sync> = Box::new(Owner(lender, Arc::clone(&gone)));
    // SAFETY: the owner keeps the mapping alive, and no buffer is taken from the lender.
    let arena = unsafe { Arena::adopt(start, 4 * PAGE, owner) }.unwrap();
    assert!(arena.is_adopted());
    let mut buffer = arena.take_at(PAGE, PAGE).unwrap();
    buffer.fill(3);
    drop(arena);
    assert!(
        !gone.load(Ordering::SeqCst),
        "a buffer still uses the memory"
    );
    let io = buffer.into_io();
    assert!(!gone.load(Ordering::SeqCst));
    drop(io);
    assert!(gone.load(Ordering::SeqCst));
}

#[test]
fn adopted_memory_must_lie_on_pages() {
    for (shift, bytes) in [(1, PAGE), (0, PAGE + 1), (0, 0)] {
        let lender = Arena::allocate(2 * PAGE).unwrap();
        let start = NonNull::new(lender.as_ptr().wrapping_add(shift)).unwrap();
        // SAFETY: the call refuses before it uses the memory.
        assert!(unsafe { Arena::adopt(start, bytes, Box::new(lender)) }.is_err());
    }
}

/// A put that already held memory queued behind callers that waited for exactly that memory; no
/// caller made progress until one of them timed out.
#[test]
fn an_empty_request_skips_the_queue() {
    let arena = Arena::allocate(PAGE).unwrap();
    let held = arena.take(PAGE).unwrap();
    let behind = arena.clone();
    let waits = std::thread::spawn(move || {
        behind
            .take_many(&[PAGE], &mut Patience::new(LONG))
            .map(drop)
    });
    while arena.inner.state.lock().line.is_empty() {
        std::thread::yield_now();
    }
    assert!(
        arena
            .take_many(&[], &mut Patience::new(Duration::ZERO))
            .unwrap()
            .is_empty()
    );
    drop(held);
    waits.join().unwrap().unwrap();
}

#[test]
fn shared_loans_overlap_each_other_and_nothing_else() {
    let arena = Arena::allocate(4 * PAGE).unwrap();
    let one = arena.lend(100, 5000).unwrap();
    let other = arena.lend(3000, 9000).unwrap();
    assert_eq!(arena.available(), 4 * PAGE - 11_900);
    let refused = arena.lend_exclusive(4000, 10).unwrap_err();
    assert!(matches!(refused, ArenaError::Overlap { .. }), "{refused}");
    assert!(arena.take_at(0, PAGE).is_err() && arena.take_at(2 * PAGE, PAGE).is_err());
    drop(one);
    let mut alone = arena.lend_exclusive(0, 3000).unwrap();
    assert!(arena.lend(2999, 1).is_err());
    assert!(other.bytes().is_none(), "shared memory is never a slice");
    alone.bytes_mut().unwrap().fill(7);
    drop((alone, other));
    assert_eq!(arena.available(), 4 * PAGE);
    let (again, mut copy) = (arena.lend(2990, 20).unwrap(), [1; 20]);
    again.copy_to(0, &mut copy);
    assert_eq!(copy[..], [[7; 10], [0; 10]].concat());
    for (offset, len) in [(0, 0), (4 * PAGE, 1), (1, 4 * PAGE), (usize::MAX, 2)] {
        assert!(arena.lend(offset, len).is_err());
    }
}

#[test]
fn a_callback_comes_when_the_last_user_of_the_range_has_gone() {
    let arena = Arena::allocate(4 * PAGE).unwrap();
    let called = Arc::new(AtomicBool::new(false));
    let wait = |offset, len| {
        called.store(false, Ordering::Relaxed);
        let called = Arc::clone(&called);
        arena.when_free(offset, len, move || called.store(true, Ordering::Relaxed));
    };
    let is_called = || called.load(Ordering::Relaxed);
    wait(0, 4 * PAGE);
    assert!(is_called(), "at once");
    let (one, other) = (arena.lend(0, 100).unwrap(), arena.lend(50, 100).unwrap());
    let buffer = arena.take_at(PAGE, PAGE).unwrap();
    wait(60, PAGE);
    drop(one);
    assert!(!is_called());
    drop(other);
    assert!(!is_called(), "the buffer overlaps");
    drop(buffer);
    assert!(is_called());
    // An `IoBuf` keeps the range like the loan it was made of.
    let io = arena.lend(0, PAGE).unwrap().into_io();
    wait(0, 1);
    let copy = io.clone();
    drop(io);
    assert!(!is_called());
    drop(copy);
    assert!(is_called());
}
