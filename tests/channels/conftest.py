"""Runs tests that use Dr.Jit on its thread; helper modules here can be imported."""

import functools
import sys
from pathlib import Path

import pytest

from sionna_loc.places.tracer_thread import TRACER_THREAD

sys.path.append(str(Path(__file__).parent))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Let a test marked `on_tracer_thread` run there, see `TracerThread`."""
    if pyfuncitem.get_closest_marker("on_tracer_thread"):
        pyfuncitem.obj = functools.partial(TRACER_THREAD.call, pyfuncitem.obj)
