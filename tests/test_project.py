"""The project's own files: packaging, set-up commands, settings."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGETS = ("venv", "train", "test", "test-slow", "lint", "format", "clean", "help")


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def stated_version():
    tree = ast.parse((ROOT / "sionna_loc" / "__init__.py").read_text(encoding="utf-8"))
    values = (node.value for node in tree.body if isinstance(node, ast.Assign))
    return next(value.value for value in values if isinstance(value, ast.Constant))


def test_setup_reads_the_version_without_importing_the_package():
    code = (
        "import runpy, sys, setuptools\n"
        "setuptools.setup = lambda **options: print(options['version'])\n"
        "runpy.run_path('setup.py')\n"
        "print('sionna_loc' in sys.modules)"
    )
    assert run(sys.executable, "-c", code).stdout.split() == [stated_version(), "False"]


def test_help_lists_every_target():
    lines = run("make", "--no-print-directory", "help").stdout.splitlines()
    assert [line.split()[1] for line in lines] == sorted(TARGETS, key=list_order)
    assert all(len(line.split()) > 2 for line in lines), "each target says what it does"


def list_order(target):
    return (ROOT / "Makefile").read_text(encoding="utf-8").index(f"\n{target}:")


def test_ci_script_is_valid_and_executable():
    script = ROOT / ".ci" / "run"
    run("bash", "-n", str(script))
    assert script.stat().st_mode & 0o111 == 0o111


def test_ci_script_reports_failure(tmp_path):
    """A failing test makes it fail, and pytest's closing line comes last."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    closing = "1 failed, 2 passed, 3 deselected in 0.12s"
    (tmp_path / "Makefile").write_text(
        f"lint:\n\t@true\ntest:\n\t@echo '{closing}'; exit 1\n", encoding="utf-8"
    )
    result = subprocess.run(
        ["bash", str(tmp_path / ".ci" / "run")], capture_output=True, text=True
    )
    assert result.returncode != 0
    assert result.stdout.splitlines()[-1] == closing


def test_license_is_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
