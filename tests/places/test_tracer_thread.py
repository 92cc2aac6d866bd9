import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sionna_loc.places import tracer_thread
from sionna_loc.places.tracer_thread import (
    TRACER_THREAD,
    TracerClosedError,
    TracerThread,
)


def test_all_calls_run_on_one_thread_one_after_the_other():
    running, most, names = [], [], set()

    def task(number):
        names.add(threading.current_thread().name)
        running.append(number)
        most.append(len(running))
        time.sleep(0.005)
        running.remove(number)
        return 2 * number

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: TRACER_THREAD.call(task, n), range(8)))

    assert results == [2 * n for n in range(8)]
    assert names == {"sionna_loc-tracer"}
    assert max(most) == 1


def test_a_call_from_the_thread_itself_does_not_wait_for_itself():
    assert TRACER_THREAD.call(lambda: TRACER_THREAD.call(lambda: 7)) == 7


def test_memory_of_arrays_that_are_gone_is_given_back():
    def use_half_a_gigabyte():
        import drjit as dr
        import mitsuba as mi

        dr.eval(dr.arange(mi.Float, 2**27))
        dr.sync_thread()

    def held():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    TRACER_THREAD.call(use_half_a_gigabyte)
    before = held()
    TRACER_THREAD.release_memory()
    assert before - held() > 400


def test_a_thread_that_has_not_started_holds_no_memory():
    thread = TracerThread()
    thread.release_memory()
    assert thread._thread is None


def test_exceptions_come_out_as_they_are_and_the_thread_lives_on():
    def fail():
        raise KeyError("which")

    with pytest.raises(KeyError, match="which"):
        TRACER_THREAD.call(fail)
    assert TRACER_THREAD.call(lambda: 1) == 1


def test_whoever_starts_it_waits_until_it_is_set_up(monkeypatch):
    done = []

    def set_up():
        time.sleep(0.2)
        done.append(threading.current_thread().name)

    monkeypatch.setattr(tracer_thread, "_set_up_mitsuba", set_up)
    thread = TracerThread()
    thread.start()
    assert done == ["sionna_loc-tracer"]
    thread.close()


def test_a_failing_set_up_is_what_every_call_raises(monkeypatch):
    def set_up():
        raise ImportError("no LLVM")

    monkeypatch.setattr(tracer_thread, "_set_up_mitsuba", set_up)
    thread = TracerThread()
    thread.start()
    for _ in range(2):
        with pytest.raises(ImportError, match="no LLVM"):
            thread.call(lambda: None)
    thread.close()


def test_close_lets_the_running_call_end_and_refuses_the_others():
    thread = TracerThread()
    thread.call(lambda: None)
    started = threading.Event()

    def slow():
        started.set()
        time.sleep(0.2)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(thread.call, slow)
        started.wait(5)
        second = pool.submit(thread.call, slow)
        time.sleep(0.05)
        thread.close()

        assert first.result() == "done"
        assert isinstance(second.exception(), TracerClosedError)
    with pytest.raises(TracerClosedError):
        thread.call(slow)
