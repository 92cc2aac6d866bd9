"""Which LLVM library is loaded, and what is said where there is none."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sionna_loc import _llvm

ROOT = Path(__file__).parent.parent
NEEDS_LLVM = ("drjit", "mitsuba", "sionna.rt")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def empty_machine(tmp_path, monkeypatch):
    """No LLVM anywhere: not in the environment, by pip, in the prefix or system."""
    monkeypatch.delenv("DRJIT_LIBLLVM_PATH", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setattr(_llvm, "_DISTRIBUTION", "no-such-llvm")
    monkeypatch.setattr(_llvm, "_SYSTEM", (f"{tmp_path}/usr/llvm-*/libLLVM*.so*",))
    monkeypatch.setattr(_llvm.sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(_llvm.ctypes.util, "find_library", lambda name: None)
    return monkeypatch


@pytest.fixture
def install(tmp_path, empty_machine):
    """Install a wheel with a library as `pip install --user` does."""

    def run():
        site = tmp_path / "user" / "lib" / "python3" / "site-packages"
        library = touch(tmp_path / "user" / "lib" / "libLLVM.so.23.1")
        (library.parent / "libLLVM.so").symlink_to(library.name)
        info = site / "no_such_llvm-23.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Name: no-such-llvm\nVersion: 23.1\n")
        names = ("libLLVM.so", "libLLVM.so.23.1", "libLLVM-99.so", "libLTO.so.99")
        lines = (f"../../{name},,\n" for name in names)  # libLLVM-99 is not there.
        (info / "RECORD").write_text("".join(lines))
        empty_machine.syspath_prepend(site)
        return str(library)

    return run


def test_each_place_wins_over_those_after_it(empty_machine, install, tmp_path):
    assert _llvm._find_llvm() is None
    in_system = touch(tmp_path / "usr" / "llvm-40" / "libLLVM-40.so")
    assert _llvm._find_llvm() == str(in_system)
    in_prefix = touch(tmp_path / "prefix" / "lib" / "libLLVM-30.so")
    assert _llvm._find_llvm() == str(in_prefix)
    by_pip = install()
    assert _llvm._find_llvm() == by_pip
    empty_machine.setenv("DRJIT_LIBLLVM_PATH", "mine.so")
    assert _llvm._find_llvm() == "mine.so"


def test_the_wheel_is_found_outside_the_prefix(install):
    assert _llvm._find_llvm() is None
    assert _llvm._installed_files() == []
    library = install()

    assert _llvm._find_llvm() == library


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("llvm-9/libLLVM-9.so", "llvm-15/libLLVM-15.so"),
        ("llvm-x/libLLVM-9.so.1", "llvm-x/libLLVM-15.so"),
        ("llvm-9/libLLVM.so", "llvm-18/libLLVM.so.18.1"),
    ],
)
def test_the_highest_version_wins(empty_machine, tmp_path, older, newer):
    touch(tmp_path / "usr" / older)
    expected = touch(tmp_path / "usr" / newer)

    assert _llvm._find_llvm() == str(expected)


def test_links_to_nowhere_do_not_count(empty_machine, tmp_path):
    real = touch(tmp_path / "usr" / "llvm-15" / "libLLVM-15.so")
    (real.parent / "libLLVM-19.so").symlink_to("gone.so")

    assert _llvm._find_llvm() == str(real)


@pytest.mark.parametrize("content", [None, "no library"])
def test_a_broken_choice_of_the_user_is_an_import_error(tmp_path, content):
    path = tmp_path / "libLLVM.so"
    if content is not None:
        path.write_text(content)
    process = subprocess.run(
        [sys.executable, "-c", "import sionna_loc.channels"],
        env={**os.environ, "DRJIT_LIBLLVM_PATH": str(path)},
        capture_output=True,
        text=True,
    )
    message = process.stderr.splitlines()[-1]

    assert process.returncode == 1  # A crash would be negative.
    assert message.startswith("ImportError: The LLVM shared library cannot be loaded")
    assert "pip install karellen-llvm-core" in message
    assert f"Received: DRJIT_LIBLLVM_PATH='{path}'" in message


def test_neither_llvm_nor_cuda_is_an_import_error(monkeypatch):
    monkeypatch.setattr(_llvm, "_find_llvm", lambda: None)
    monkeypatch.setattr(_llvm, "has_cuda", lambda: False)
    with pytest.raises(ImportError, match="pip install karellen-llvm-core"):
        _llvm.load_llvm.__wrapped__()


def test_cuda_does_without_llvm(monkeypatch):
    monkeypatch.setattr(_llvm, "_find_llvm", lambda: None)
    monkeypatch.setattr(_llvm, "has_cuda", lambda: True)

    assert _llvm.load_llvm.__wrapped__() is None


def imported_at_once(path):
    """Return what a file imports when it is imported, in this order."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    return names


def test_tests_and_benchmarks_load_llvm_before_what_needs_it():
    assert imported_at_once(ROOT / "tests" / "conftest.py")[0] == "sionna_loc.channels"
    found = 0
    for folder in ("tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            names = imported_at_once(path)
            if any(name.startswith(NEEDS_LLVM) for name in names):
                assert names[0] == "sionna_loc.channels", path
                found += 1
    assert found >= 4


def test_a_home_that_is_not_there_is_one_clear_line(tmp_path):
    """Dr.Jit would end the process without a word."""
    program = "import sionna_loc.channels"
    environment = {**os.environ, "HOME": str(tmp_path / "gone")}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: Ray tracing needs a home folder")
    assert last.endswith(f"HOME={str(tmp_path / 'gone')!r}.")
