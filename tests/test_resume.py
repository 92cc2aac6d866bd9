"""A run that is interrupted, killed and resumed ends as if nothing had happened."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_training
import tiny_vinloc
from run_folders import final_arrays

from sionna_loc import train
from sionna_loc.checkpoints import list_checkpoints

HERE = Path(__file__).parent
ARGUMENTS = [
    *("--scenario", "free_space", "--model", "tiny", "--steps", "60"),
    *("--batch-size", "8", "--num-val", "24", "--num-test", "24"),
    *("--scenario-option", "sleep=0.05"),
]
RESUMED = ["--resume", "--batch-size", "8"]
TINY_TRAINING = (HERE / "tiny_training.py",)
TRAIN = ("-m", "sionna_loc.train")
# VIn-Loc with all its parts.
TINY_VINLOC = {**tiny_vinloc.SIZES, **tiny_vinloc.REFINER}
STARTED = []


@pytest.fixture(autouse=True, scope="module")
def nothing_stays_behind():
    yield
    for process in STARTED:
        process.kill()


def start(run_dir, *arguments, program=TINY_TRAINING):
    command = [sys.executable, *program, "--run-dir", run_dir]
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [*map(str, command), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def wait_for_checkpoint(process, run_dir, step, timeout=300):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        found = list_checkpoints(run_dir / "checkpoints")
        if found and int(found[-1].name.split("-")[1]) >= step:
            return
        time.sleep(0.01)
    pytest.fail(f"no checkpoint of step {step}: {process.communicate()[1]}")


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def results(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    metrics["training"].pop("seconds")
    with open(run_dir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    timings = ("seconds", "samples_per_second", "wait_share")
    history = [{k: v for k, v in row.items() if k not in timings} for row in rows]
    return metrics, history


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The run that nothing stops, in this process; the others get their own."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    with tiny_training.registered():
        quiet = ["--no-baseline", "--quiet", "--run-dir", str(run_dir)]
        assert train.main([*ARGUMENTS, *quiet]) == 0
    return run_dir


def test_interrupted_then_killed_then_resumed(whole_run, tmp_path):
    run_dir = tmp_path / "run"
    process = start(run_dir, *ARGUMENTS)
    wait_for_checkpoint(process, run_dir, 10)
    time.sleep(0.15)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert f"--resume --run-dir {run_dir}" in out
    step = int(list_checkpoints(run_dir / "checkpoints")[-1].name.split("-")[1])
    assert 10 < step < 60 and f"step {step}" in out
    assert not (run_dir / "metrics.json").exists()

    process = start(run_dir, *RESUMED)
    wait_for_checkpoint(process, run_dir, (step // 10 + 1) * 10)
    time.sleep(0.1)
    process.kill()
    process.communicate()
    assert not (run_dir / "metrics.json").exists()

    out = finish(start(run_dir, *RESUMED))
    assert "Resuming at step" in out
    assert results(run_dir) == results(whole_run)
    assert_same_arrays(final_arrays(run_dir), final_arrays(whole_run))


def assert_same_arrays(resumed, whole):
    """Weights, optimizer, random state and best weights are the same, bit for bit."""
    assert set(resumed) == set(whole)
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


@pytest.mark.slow
def test_sigterm_saves_too(tmp_path):
    process = start(tmp_path / "run", *ARGUMENTS)
    wait_for_checkpoint(process, tmp_path / "run", 10)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "--resume" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "more"),
    [
        ("paris_scn1", {}),  # traced channels
        ("inf_dh", {"map_cells": [4], "num_neighbours": 4, "neighbour_units": 8}),
    ],
)
def test_vinloc_killed_and_resumed(scenario, more, tmp_path):
    values = {**TINY_VINLOC, **more}
    options = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    options = [word for option in options for word in ("--model-option", option)]
    arguments = ["--small", "--steps", "40", "--no-baseline", *options]
    arguments += ["--scenario", scenario]
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    finish(start(whole, *arguments, program=TRAIN))

    process = start(run_dir, *arguments, program=TRAIN)
    wait_for_checkpoint(process, run_dir, 20)
    process.kill()
    process.communicate()
    step = int(list_checkpoints(run_dir / "checkpoints")[-1].name.split("-")[1])
    assert step < 40 and not (run_dir / "metrics.json").exists()

    resumed = ["--resume", "--scenario", scenario]
    out = finish(start(run_dir, *resumed, program=TRAIN))
    assert f"Resuming at step {step}" in out
    assert results(run_dir) == results(whole)
    assert_same_arrays(final_arrays(run_dir), final_arrays(whole))
