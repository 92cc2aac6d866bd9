"""Models, layers, losses, metrics and signals on Keras's other back ends.

Weights saved on TensorFlow are loaded there: they must locate the same, and train on.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import other_backend
import pytest
import tiny_vinloc

from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.registry import get_model_class

HERE = Path(__file__).parent
TRP = np.array([[50, 40, 20], [-45, 55, 22], [-40, -50, 18], [55, -35, 24]], "f")
UE = np.array([[10, 20, 1.5], [-25, 5, 1.5], [5, -30, 1.5]], "f")
MIRRORS = [[[-1, 0, 150], [0, 1, 0]], [[1, 0, 0], [0, -1, 130]]]  # x = 75, y = 65
NUMBERS = {
    "region": [[-60.0, -60.0, 0.0], [60.0, 60.0, 3.0]],
    "num_taps": 32,
    "sampling_rate": 5e7,
}
TINY = tiny_vinloc.SIZES
REFINER = {**tiny_vinloc.REFINER, "refiner_window": 9}
GRID = {
    "num_cells": 6,
    "num_candidates": 3,
    "divisions": (2,),
    "evidence_units": 8,
    "evidence_window": 5,
    "grid_units": 8,
    "grid_blocks": 1,
    "refiner_units": 8,
    "position_weight": 1.0,
}
# Keras borrows the Fourier transforms of its NumPy back end from JAX.
NEEDED = {"jax": ["jax"], "torch": ["torch"], "numpy": ["jax"]}
MODELS = {
    "compact": (
        *("vinloc", "compact"),
        {
            **{**TINY, **REFINER, "refiner_images": 1, "gaussian_head": True},
            **{"map_cells": [2, 4], "map_units": 4, "num_neighbours": 3},
            **{"num_references": 20, "num_sites": 12, "neighbour_units": 8},
        },
    ),
}
MORE_MODELS = {
    "backprojection": (
        *("backprojection", None),
        {
            **{**GRID, "num_ant": 2, "divisions": (2, 2), "num_images": 2},
            **{"condition_units": 16, "condition_blocks": 1},
        },
    ),
    "paper": ("vinloc", "paper", {**TINY, "num_ant": 2}),
    "product": (
        *("product_of_experts", None),
        {
            "experts": [
                {
                    "model": "vinloc",
                    "arguments": {**NUMBERS, **TINY, "gaussian_head": True},
                },
                {"model": "backprojection", "arguments": {**NUMBERS, **GRID}},
            ]
        },
    ),
    "multilateration": ("multilateration", None, {}),
}
SET = {"units": 12, "hyper_units": 12}
VECTOR = {"hyper_units": [8, 16], "head_units": [12]}
TRANSFORMER = {
    **{"measurement_units": 10, "position_units": 6, "num_heads": 2},
    **{"num_blocks": 1, "mlp_units": 12, "head_units": 12},
}
TRACK = {"window": 3, "units": 10}
LINK_MODELS = {
    "hyploc_set": ("hyploc_set", None, SET),
    "track": (
        *("recurrent", "hyploc"),
        {"num_trps": 4, "sample_options": VECTOR, **TRACK},
    ),
}
MORE_LINK_MODELS = {
    "hyploc": ("hyploc", None, {"num_trps": 4, **VECTOR}),
    "vinloc_links": ("vinloc_links", None, TRANSFORMER),
    "mlp": ("mlp", None, {"num_trps": 4, "units": (16, 16)}),
    "track_of_sets": ("recurrent", "hyploc_set", {"sample_options": SET, **TRACK}),
    "track_of_tokens": (
        *("recurrent", "vinloc_links"),
        {"sample_options": TRANSFORMER, **TRACK},
    ),
}
ALL_MODELS = {**MODELS, **MORE_MODELS, **LINK_MODELS, **MORE_LINK_MODELS}


def make_model(name, preset, options):
    keras.utils.set_random_seed(0)
    model_class = get_model_class(name)
    numbers = NUMBERS
    if model_class.features == "link_measurements":
        numbers = {"region": NUMBERS["region"]}
    model = model_class.from_preset(preset, **numbers, **options)
    for weight in model.trainable_weights:  # zero-initialised heads would hide errors
        weight.assign_add(keras.random.normal(weight.shape, stddev=0.1))
    return model


def make_given():
    """Inputs for two antennas, one TRP masked; links, and windows of them; targets;
    paths for the signals."""
    distance = np.linalg.norm(UE[:, None] - TRP, axis=-1)  # [samples, trps]
    delay = (distance / SPEED_OF_LIGHT).astype("f")
    gain = (np.exp(1j * distance) / distance).astype("complex64")
    time = np.arange(NUMBERS["num_taps"]) / NUMBERS["sampling_rate"]
    pulse = np.sinc(NUMBERS["sampling_rate"] / 2 * (time - delay[..., None]))
    cir = gain[..., None] * pulse  # [samples, trps, taps]
    cir = np.stack([cir, 1j * cir], axis=2)
    mask = np.ones((3, 4), bool)
    mask[1, 2] = False
    return {
        "cir": np.stack([cir.real, cir.imag], axis=-1).astype("f"),
        "trp_position": np.broadcast_to(TRP, (3, 4, 3)),
        "trp_mask": mask,
        **make_links(mask),
        "target": UE,
        "gain": gain,
        "delay": delay,
    }


def make_links(mask):
    """Measurements of samples, one link of which is missing, and of windows of three,
    two and one of them."""
    ue = UE[:, None] + 4 * np.arange(-2, 1)[:, None] * np.array([1, 0.5, 0], "f")
    way = ue[:, :, None] - TRP  # [samples, window, trps, 3]
    distance = np.linalg.norm(way, axis=-1, keepdims=True)
    power, tof = -60 - 20 * np.log10(distance), distance / SPEED_OF_LIGHT
    heard = np.ones(distance.shape[:-1], bool)
    heard[2, :, 1] = False
    link = np.concatenate([power, tof, way / distance], axis=-1) * heard[..., None]
    there = np.arange(3) >= np.arange(3)[:, None]  # [samples, window]
    windows = {
        "link": link.astype("f"),
        "trp_heard": heard,
        "trp_position": np.broadcast_to(TRP, way.shape),
        "trp_mask": mask[:, None] & there[..., None],
    }
    last = {name: windows[name][:, -1] for name in ("link", "trp_heard")}
    return {**last, **{f"window_{name}": x for name, x in windows.items()}}


def write_models(folder, names):
    """Write models as TensorFlow saves them, and what they make of the inputs."""
    given = make_given()
    np.savez(folder / "given.npz", **given)
    expected = {
        "taps": other_backend.taps(given["gain"], given["delay"]),
        "measures": other_backend.measures(UE, 2 * UE),
    }
    for name in names:
        model = make_model(*ALL_MODELS[name])
        inputs = other_backend.inputs_of(model, given)
        model.adapt([(inputs, {"position": UE})])
        if getattr(model, "images", None) is not None:  # too few links to find any
            count = model.images.num_images
            model.images.isometry.assign(MIRRORS[:count])
        model.save(folder / f"{name}.keras")
        outputs = model.predict_on_batch(inputs)
        expected[name] = outputs["position"]
        if "covariance" in outputs:
            expected[f"{name} deviation"] = other_backend.deviations(outputs)
        assert np.ptp(expected[name][:, :2], axis=0).min() > 0.1  # so this can fail
    np.savez(folder / "expected.npz", **expected)


@pytest.fixture
def report(request, tmp_path):
    """What the other back end says."""
    backend, names = request.param
    for package in NEEDED[backend]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    write_models(tmp_path, names)
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [sys.executable, HERE / "other_backend.py", tmp_path, *names],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        },
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["backend"] == backend
    assert set(names) < set(report["distance"])
    return report


# Their compilers take a minute or two for each model, so most wait for the slow tests.
@pytest.mark.parametrize(
    "report",
    # Keras's NumPy back end has no convolutions of its own, and trains nothing.
    [
        *(("jax", MODELS), ("torch", MODELS), ("numpy", ["multilateration"])),
        *(("jax", LINK_MODELS), ("torch", LINK_MODELS)),
        *(
            pytest.param((backend, models), marks=pytest.mark.slow)
            for models in (MORE_MODELS, MORE_LINK_MODELS)
            for backend in ("jax", "torch")
        ),
    ],
    ids=[
        *("jax", "torch", "numpy", "jax-links", "torch-links"),
        *("jax-more", "torch-more", "jax-more-links", "torch-more-links"),
    ],
    indirect=True,
)
def test_other_back_ends_locate_the_same_and_train(report):
    for name, distance in report["distance"].items():
        limit = 1e-5 if name in ("taps", "measures") else 1e-2
        assert distance < limit, name
    for name, (before, after) in report["losses"].items():
        assert after < 0.9 * before, name
    assert not report["uses_tensorflow"]
