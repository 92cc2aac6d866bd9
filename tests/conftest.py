"""What all tests share: one small scenario, and a cache of their own."""

# First of all, before a test file imports Dr.Jit, Mitsuba or Sionna RT: loads LLVM.
import sionna_loc.channels  # noqa: F401

# isort: split
import functools
import sys
from pathlib import Path

import pytest

from sionna_loc.places.tracer_thread import TRACER_THREAD

# Test files may import the helper modules that lie beside them.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Let a test that is marked `on_tracer_thread` run there, see `TracerThread`.

    Its fixtures do not, and it must not run a graph that traces, which would wait for
    this very thread.
    """
    if pyfuncitem.get_closest_marker("on_tracer_thread"):
        pyfuncitem.obj = functools.partial(TRACER_THREAD.call, pyfuncitem.obj)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Keep frozen sets of tests out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIONNA_LOC_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module", autouse=True)
def compilation(request):
    """Let XLA compile where it matters: in tests of layers and models, and marked ones.

    Elsewhere compiling takes more than half of the time, and what is compiled stays in
    memory until the process ends.
    """
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    is_marked = request.node.get_closest_marker("compiled") is not None
    with pytest.MonkeyPatch.context() as patch:
        if not is_marked and folder not in ("layers", "models"):
            patch.setenv("SIONNA_LOC_COMPILE", "0")
        yield


@pytest.fixture
def command_line(monkeypatch, capsys):
    """Run a command line here; gives its exit code and its lines on stderr."""
    from sionna_loc import cli

    def run(module, *arguments):
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setattr(cli, "_leave", sys.exit)
            cli.run(lambda: module.main([*map(str, arguments)]))
        return end.value.code, capsys.readouterr().err.splitlines()

    return run


@pytest.fixture(scope="session")
def small_paris():
    """The small form of paris_scn1; its scene and kernels are loaded once."""
    from sionna_loc.registry import get_scenario

    return get_scenario("paris_scn1", small=True)
