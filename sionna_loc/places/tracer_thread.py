"""The one thread of the process that touches Dr.Jit, Mitsuba and Sionna RT.

Dr.Jit arrays may not be used from several threads. Everything that traces runs on
this thread; graph operations only hand it NumPy arrays and wait.
"""

import atexit
import importlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sionna_loc.device import current_device

_JOIN_SECONDS = 60.0


class TracerThread:
    """Runs functions one after the other on a thread of its own.

    The thread starts with the first call. It is a daemon, so that it never keeps the
    interpreter alive by itself; `close`, called at exit, lets the running function
    end first, because a thread that is cut off inside a kernel can take the whole
    process down.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run `function(*args, **kwargs)` on the thread and return its result.

        Raises: whatever the function raises; RuntimeError after `close`.
        """
        if threading.current_thread() is self._thread:
            return function(*args, **kwargs)
        future: Future = Future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("The ray tracer is shut down.")
            self._start()
            self._tasks.put((future, function, args, kwargs))
        return future.result()

    def close(self) -> None:
        """Fail what waits, let the running function end, and stop the thread."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
            self._tasks.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)

    def _start(self) -> None:
        """Start the thread if it does not run yet; the caller holds the lock."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="sionna_loc-tracer", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        """Work off the queue until `close`."""
        set_up_error = _try(_set_up_mitsuba)
        while (task := self._tasks.get()) is not None:
            future, function, args, kwargs = task
            if self._is_closed:
                future.set_exception(RuntimeError("The ray tracer is shut down."))
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


def _set_up_mitsuba() -> None:
    """Take the Mitsuba variant of the chosen device, before Sionna RT is imported.

    Functions registered last run first at exit: `close` must be registered after
    Mitsuba's own clean-up, which takes away what a running function still needs.
    """
    import mitsuba as mi

    mi.set_variant(current_device().mitsuba_variant)
    importlib.import_module("sionna.rt")
    atexit.register(TRACER_THREAD.close)


def _try(function: Callable[[], None]) -> BaseException | None:
    """Return what `function` raises, or `None`."""
    try:
        function()
    except BaseException as error:
        return error
    return None


TRACER_THREAD = TracerThread()
"""The thread that all scenes and ray tracers of the process share."""
