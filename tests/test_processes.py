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
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "imports", [TENSORFLOW + SCENARIO, SCENARIO + TENSORFLOW], ids=["before", "after"]
)
def test_tensorflow_may_be_imported_before_or_after(imports):
    process = start(imports + SOLVE)
    out, err = process.communicate(timeout=120)

    assert process.returncode == 0, err
    assert int(out.split()[-1]) > 16


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


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_a_program_that_ends_while_tracing_ends_at_once_and_quietly(pause):
    process = start(SCENARIO + READ + f"time.sleep({pause})")
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert "reading" in out
    assert "Traceback" not in err


@pytest.mark.parametrize("pause", [0.0, 0.7])
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
