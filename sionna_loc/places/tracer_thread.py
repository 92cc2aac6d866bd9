"""The one thread of the process that touches Dr.Jit, Mitsuba and Sionna RT.

Dr.Jit arrays may not be used from several threads. Everything that traces runs on
this thread; graph operations only hand it NumPy arrays and wait.
"""

import atexit
import importlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sionna_loc.device import current_device

_JOIN_SECONDS = 60.0
_QUIET_SECONDS = 0.5
_DRAIN_SECONDS = 10.0


class TracerClosedError(StopIteration):
    """The tracer thread has ended.

    TensorFlow reports any other exception from a graph's function on the console;
    this one is expected when a program ends while a data set is being read.
    """

    def __init__(self) -> None:
        super().__init__("The ray tracer is shut down.")


class TracerThread:
    """Runs functions one after the other on a thread of its own.

    The thread must be started outside of TensorFlow's: these flush denormal numbers
    to zero, a new thread inherits that from the one that starts it, and SciPy's k-d
    tree then recurses without end. It is a daemon, so that it never keeps the
    interpreter alive by itself; `close`, called at exit, lets the running function
    end first, because a thread that is cut off inside a kernel can take the whole
    process down.

    Whoever starts it waits until Mitsuba and Sionna RT are imported. They parse Python
    source, as AutoGraph does, and CPython before 3.12 counts the depth of the parser in
    one place for all threads: two that parse at the same time can fail with
    `SystemError: AST constructor recursion depth mismatch`.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_set_up = threading.Event()
        self._is_closed = False
        self._num_waiting = 0
        self._last_call = 0.0

    def start(self) -> None:
        """Start the thread, if it does not run yet, and wait until it is set up.

        Not from a graph operation.

        Raises: TracerClosedError after `close`.
        """
        with self._lock:
            if self._is_closed:
                raise TracerClosedError()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="sionna_loc-tracer", daemon=True
                )
                self._thread.start()
        self._is_set_up.wait()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run `function(*args, **kwargs)` on the thread and return its result.

        Raises: whatever the function raises; TracerClosedError after `close`.
        """
        if threading.current_thread() is self._thread:
            return function(*args, **kwargs)
        self._last_call = time.monotonic()
        self.start()
        future: Future = Future()
        with self._lock:
            if self._is_closed:
                raise TracerClosedError()
            self._num_waiting += 1
            self._tasks.put((future, function, args, kwargs))
        try:
            return future.result()
        finally:
            with self._lock:
                self._num_waiting -= 1

    def release_memory(self) -> None:
        """Give back what Dr.Jit keeps for further arrays, if the thread has started.

        It keeps what the largest trace took, gigabytes where many links are traced at
        once; the next trace takes it anew.
        """
        if self._thread is not None:
            self.call(_flush_malloc_cache)

    def close(self) -> None:
        """Fail what waits, let the running function end, and stop the thread.

        Then wait until no graph calls any more. Once the interpreter ends, a graph
        operation that wants to call Python waits for ever, and TensorFlow, which
        clears its data sets away, waits for the operation.
        """
        with self._lock:
            self._is_closed = True
            thread = self._thread
            self._tasks.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)
            self._drain()

    def _drain(self) -> None:
        """Wait until the last call has been answered a little while ago."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        while (now := time.monotonic()) < deadline:
            if not self._num_waiting and now - self._last_call > _QUIET_SECONDS:
                return
            time.sleep(_QUIET_SECONDS / 10)

    def _run(self) -> None:
        """Work off the queue until `close`."""
        set_up_error = _try(_set_up_mitsuba)
        # Functions registered last run first at exit: `close` must come after Mitsuba's
        # own clean-up, which takes away what a running function still needs.
        atexit.register(self.close)
        self._is_set_up.set()
        while (task := self._tasks.get()) is not None:
            future, function, args, kwargs = task
            if self._is_closed:
                future.set_exception(TracerClosedError())
            elif set_up_error is not None:
                future.set_exception(set_up_error)
            else:
                _fulfil(future, function, args, kwargs)
            del task, future, function, args, kwargs  # Keep no arrays while idle.


def _fulfil(
    future: Future, function: Callable[..., Any], args: tuple, kwargs: dict
) -> None:
    """Put the result of the function, or what it raised, into the future."""
    try:
        future.set_result(function(*args, **kwargs))
    except BaseException as error:
        future.set_exception(error)


def _flush_malloc_cache() -> None:
    """Give back memory that no array of Dr.Jit is in."""
    import drjit as dr

    dr.flush_malloc_cache()


def _set_up_mitsuba() -> None:
    """Take the Mitsuba variant of the chosen device, before Sionna RT is imported."""
    import mitsuba as mi

    mi.set_variant(current_device().mitsuba_variant)
    importlib.import_module("sionna.rt")


def _try(function: Callable[[], None]) -> BaseException | None:
    """Return what `function` raises, or `None`."""
    try:
        function()
    except BaseException as error:
        return error
    return None


TRACER_THREAD = TracerThread()
"""The thread that all scenes and ray tracers of the process share."""
