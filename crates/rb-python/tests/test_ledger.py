"""The order in which a host is told what became of its keys."""

from __future__ import annotations

import threading
import time

from raw_block._ledger import Ended, Ledger, Outbox


def ledger(store: dict[bytes, int]) -> Ledger[str]:
    return Ledger(
        lengths_of=lambda keys: [store.get(key, -1) for key in keys],
        size_of=lambda length: length,
        name_of=lambda key: key.decode(),
    )


def ended(*keys: bytes, length: int = 10, stored: bool = True) -> Ended[str]:
    names = [key.decode() for key in keys]
    return Ended(keys, names, None if stored else [], [length] * len(keys))


def told(steps: object) -> list[list[tuple[str, int]]]:
    return [list(zip(step.names, step.sizes)) for step in steps]  # type: ignore[attr-defined]


def test_what_is_stored_is_told_at_once() -> None:
    book = ledger({b"a": 10})
    book.begin([b"a", b"b"])
    assert told(book.settle([ended(b"a", b"b")], [])) == [[("a", 10), ("b", 10)], [], []]
    assert book.keys_in_flight() == []


def test_an_eviction_before_the_end_of_its_batch_waits() -> None:
    book = ledger({})
    book.begin([b"a"])
    assert told(book.settle([], [(b"a", 10)])) == [[], [], []]
    assert told(book.settle([ended(b"a")], [])) == [[("a", 10)], [("a", 10)], []]


def test_an_eviction_of_the_value_before_comes_first() -> None:
    book = ledger({b"a": 10})
    book.begin([b"a"])
    book.settle([], [(b"a", 7)])
    assert told(book.settle([ended(b"a")], [])) == [[], [("a", 7)], [("a", 10)]]


def test_an_event_that_comes_after_the_key_was_stored_again() -> None:
    book = ledger({b"a": 10})
    book.begin([b"a"])
    book.settle([ended(b"a")], [])
    # Deleted at both sizes and stored at one: the sum is that of the eviction.
    assert told(book.settle([], [(b"a", 7)])) == [[], [("a", 17)], [("a", 10)]]


def test_two_puts_with_an_eviction_between() -> None:
    book = ledger({b"a": 10})
    book.begin([b"a"])
    book.begin([b"a"])
    assert told(book.settle([ended(b"a", length=5)], [(b"a", 5)])) == [[("a", 5)], [], []]
    assert told(book.settle([ended(b"a")], [])) == [[], [("a", 5)], [("a", 10)]]


def test_two_ends_at_once_never_count_below_zero() -> None:
    book = ledger({b"a": 10})
    book.begin([b"a"])
    book.begin([b"a"])
    steps = told(book.settle([ended(b"a", length=5), ended(b"a")], [(b"a", 5)]))
    assert steps == [[("a", 5)], [("a", 5)], [("a", 10)]]


def test_a_put_that_was_refused_lets_the_deletion_out() -> None:
    book = ledger({})
    book.begin([b"a"])
    assert told(book.settle([], [(b"a", 7)])) == [[], [], []]
    book.cancel([b"a"])
    assert told(book.settle([], [])) == [[], [("a", 7)], []]


def test_a_put_that_begins_while_the_store_is_asked() -> None:
    store = {b"a": 10}
    book = ledger(store)
    book.begin([b"a"])
    asked = book._lengths_of

    def asks(keys: list[bytes]) -> list[int]:
        book.begin([b"a"])
        return asked(keys)

    book._lengths_of = asks
    assert told(book.settle([ended(b"a")], [(b"a", 10)])) == [[("a", 10)], [], []]
    book._lengths_of = asked
    assert told(book.settle([ended(b"a")], [])) == [[], [("a", 10)], [("a", 10)]]


def test_calls_run_in_order_and_may_put_more() -> None:
    outbox, seen = Outbox(), []

    def first() -> None:
        outbox.put(lambda: seen.append(2))
        outbox.deliver()  # within a call: left to the one who delivers
        seen.append(1)

    outbox.put(first)
    outbox.deliver()
    assert seen == [1, 2]


def test_deliver_waits_for_another_thread() -> None:
    outbox, seen, begun = Outbox(), [], threading.Event()

    def slow() -> None:
        begun.set()
        time.sleep(0.2)
        seen.append("slow")

    outbox.put(slow)
    thread = threading.Thread(target=outbox.deliver)
    thread.start()
    begun.wait()
    outbox.put(lambda: seen.append("mine"))
    outbox.deliver(timeout=0.01)
    assert seen == []
    outbox.deliver()
    assert seen == ["slow", "mine"]
    thread.join()
