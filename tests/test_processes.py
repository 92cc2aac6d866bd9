"""What depends on the whole process: import order, its end, and Ctrl-C."""

import signal
import subprocess
import sys
import time

import pytest

from sionna_loc._llvm import has_cuda

SOLVE = """
trp, ue = scenario.positions(tf.constant([1, 2]), 4)
paths = scenario.channel(trp, ue, None)
print("heard", int(tf.math.count_nonzero(paths["num_paths"])))
"""
SCENARIO = """
from sionna_loc.registry import get_scenario
scenario = get_scenario("paris_scn1", small=True)
"""
TENSORFLOW = "import tensorflow as tf\n"
READ = """
import time
iterator = iter(scenario.batches(16))
next(iterator)
print("reading", flush=True)
time.sleep({pause})
"""
FIT = """
import keras
batches = scenario.batches(16).map(lambda b: (b["ue_position"], b["ue_position"]))
class Say(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("reading", flush=True)
model = keras.Sequential([keras.layers.Dense(3)])
model.compile("sgd", "mse")
model.fit(batches, steps_per_epoch=100000, verbose=0, callbacks=[Say()])
"""


def start(code):
    # A shell that ran the tests in the background would have them ignore SIGINT, which
    # their children inherit.
    heeding = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", heeding + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("imports", "pause"),
    [(TENSORFLOW + SCENARIO, 0.0), (SCENARIO + TENSORFLOW, 0.3)],
    ids=["before", "after"],
)
def test_tensorflow_comes_before_or_after_and_the_end_while_tracing(imports, pause):
    """Both orders of import work; a program may end, quietly, while it traces."""
    process = start(imports + SOLVE + READ.format(pause=pause))
    out, err = process.communicate(timeout=120)

    assert process.returncode == 0, err
    heard, reading = out.splitlines()
    assert heard.startswith("heard") and int(heard.split()[1]) > 16
    assert reading == "reading"
    assert "Traceback" not in err


def test_a_program_ends_when_the_ray_tracer_cannot_be_set_up():
    fail = "import mitsuba\ndef fail(name):\n    raise OSError('no variant')\n"
    process = start(SCENARIO.join([fail + "mitsuba.set_variant = fail", FIT]))
    _, err = process.communicate(timeout=120)

    assert process.returncode == 1
    assert "no variant" in err


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no CUDA device")
def test_the_gpu_hears_what_the_cpu_hears():
    heard = []
    for name in ("cpu", "gpu"):
        choice = f"from sionna_loc.device import use_device\nuse_device({name!r})\n"
        process = start(choice + TENSORFLOW + SCENARIO + SOLVE)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        heard.append(int(out.split()[-1]))

    assert heard[0] == pytest.approx(heard[1], abs=1)


@pytest.mark.parametrize("pause", [pytest.param(0.0, marks=pytest.mark.slow), 0.7])
def test_ctrl_c_ends_a_fit_that_traces(pause):
    process = start(SCENARIO + FIT)
    try:
        assert process.stdout.readline() == "reading\n"
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode in (1, 130, -signal.SIGINT), err
    assert "KeyboardInterrupt" in err
    assert time.monotonic() - sent < 30
