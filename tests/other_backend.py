"""What `test_backends.py` runs in a process of its own, on another Keras back end.

Reads models, inputs and what TensorFlow made of them from a folder, and prints as JSON
how far this back end is from that and what a few steps of training do to the loss.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

# For Keras to find the classes:
import sionna_loc.models.backprojection
import sionna_loc.models.hyploc
import sionna_loc.models.hyploc_set
import sionna_loc.models.mlp
import sionna_loc.models.multilateration
import sionna_loc.models.product_of_experts
import sionna_loc.models.recurrent
import sionna_loc.models.vinloc
import sionna_loc.models.vinloc_links  # noqa: F401
from sionna_loc.losses import EuclideanDistance
from sionna_loc.metrics import HorizontalRMSE
from sionna_loc.signals import band_limited_taps

TAPS = {"num_taps": 16, "sampling_rate": 2e8, "bandwidth": 1e8}


def load(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def inputs_of(model, given):
    """Return what a model takes of all that is given."""
    if model.features == "cir_tokens":
        inputs = {name: given[name] for name in ("cir", "trp_position", "trp_mask")}
        return {**inputs, "cir": inputs["cir"][:, :, : model.num_ant]}
    names = ("link", "trp_heard", "trp_position", "trp_mask")
    prefix = "window_" if model.window > 1 else ""
    inputs = {name: given[f"{prefix}{name}"] for name in names}
    if model.fixed_num_trps:  # no TRP may be missing in a sample
        mask = inputs["trp_mask"]
        inputs["trp_mask"] = mask | mask.any(axis=-1, keepdims=True)
    return inputs


def taps(gain, delay):
    """Return real and imaginary part, stacked."""
    return np.stack([np.asarray(x) for x in band_limited_taps(gain, delay, **TAPS)])


def measures(true, estimated):
    """Return the values of loss and metric on positions."""
    metric = HorizontalRMSE()
    metric.update_state(true, estimated)
    return np.array([EuclideanDistance()(true, estimated), metric.result()])


def deviations(outputs):
    """Return the standard deviation of each coordinate [m]."""
    covariance = np.asarray(outputs["covariance"])
    return np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))


def train(model, inputs, target):
    """Return the loss of the first and of the last step of some."""
    model.compile(
        keras.optimizers.AdamW(3e-3),
        loss={"position": EuclideanDistance()},
        metrics={"position": HorizontalRMSE()},
    )
    targets = {"position": target}
    history = model.fit(inputs, targets, len(target), epochs=31, verbose=0).history
    return history["loss"][0], history["loss"][-1]


def main(folder, names):
    given, expected = load(folder / "given.npz"), load(folder / "expected.npz")
    target = given.pop("target")
    found = {"taps": taps(given.pop("gain"), given.pop("delay"))}
    found["measures"] = measures(target, 2 * target)
    losses = {}
    for name in names:
        model = keras.saving.load_model(folder / f"{name}.keras")
        inputs = inputs_of(model, given)
        outputs = model.predict(inputs, verbose=0)
        found[name] = outputs["position"]
        if "covariance" in outputs:
            found[f"{name} deviation"] = deviations(outputs)
        if model.is_trainable:
            losses[name] = train(model, inputs, target)
    distance = {name: np.abs(found[name] - expected[name]).max() for name in found}
    report = {
        "backend": keras.backend.backend(),
        "distance": {name: float(value) for name, value in distance.items()},
        "losses": losses,
        "uses_tensorflow": "tensorflow" in sys.modules,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
