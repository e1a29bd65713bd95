"""Work on the network: several at a time, each with a time limit, and nobody waits for what is lost."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from build_matrix.downloads.tasks import CancelledError, Watch, outcomes


def test_each_call_has_its_outcome_and_its_position() -> None:
    def broken(_: Watch) -> str:
        raise KeyError("x")

    results = {
        result.position: result for result in outcomes([lambda _: "a", broken, lambda _: "c"], at_once=2, seconds=9)
    }
    assert (results[0].value, results[2].value) == ("a", "c")
    assert isinstance(results[1].error, KeyError)


def test_no_more_than_asked_run_at_once() -> None:
    together, most, lock = 0, 0, threading.Lock()

    def count(watch: Watch) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        watch.sleep(0.05)
        with lock:
            together -= 1

    assert len(list(outcomes([count] * 7, at_once=3, seconds=60))) == 7
    assert 1 <= most <= 3


def test_a_call_that_gets_nowhere_is_left_alone_and_the_others_are_not() -> None:
    for_ever = threading.Event()
    results = list(outcomes([lambda _: for_ever.wait(60), lambda _: True], at_once=2, seconds=0.3))
    for_ever.set()
    assert {result.position: type(result.error) for result in results} == {0: TimeoutError, 1: type(None)}


def test_what_is_paused_has_no_time_limit() -> None:
    watch = Watch(0.0)
    watch.progress()
    with watch.paused():
        assert not watch.expired
    watch.sleep(0.01)
    assert watch.expired


def test_whoever_stops_listening_cancels_what_still_runs() -> None:
    ended: list[bool] = []

    def work(watch: Watch) -> None:
        try:
            watch.sleep(60)
        except CancelledError:
            ended.append(True)
            raise

    with closing(outcomes([lambda _: None, work, work], at_once=2, seconds=60)) as results:
        assert next(results).position == 0
    assert ended == [True]  # the third was never started


def test_an_interruption_is_not_held_up() -> None:
    for_ever = threading.Event()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(outcomes([lambda _: for_ever.wait(60)], at_once=1, seconds=60, tick=interrupt))
    for_ever.set()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.endswith("(_run)"))
