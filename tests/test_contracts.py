"""What every scenario and every model owes, over the registries."""

import contextlib
import importlib
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.losses import EuclideanDistance
from sionna_loc.metrics import HorizontalRMSE, error_metrics, horizontal_errors
from sionna_loc.models.fingerprint import Fingerprint
from sionna_loc.registry import MODELS, SCENARIOS, get_model_class, get_scenario
from sionna_loc.resuming import model_arguments
from sionna_loc.sample import FIELDS

pytestmark = pytest.mark.compiled
REGION = [[-60.0, -60.0, 0.0], [60.0, 60.0, 3.0]]
SAMPLING_RATE, BANDWIDTH, NUM_TAPS = 200e6, 100e6, 128
# Models that take long to compile at the size of their default preset.
SMALLER = {
    "backprojection": {
        "num_cells": 8,
        "divisions": (2,),
        "num_candidates": 4,
        "evidence_units": 16,
        "grid_units": 16,
        "grid_blocks": 1,
    },
    "pdp_transformer": {"width": 16, "num_blocks": 1, "num_heads": 2},
    "vinloc": {
        "unet_filters": (8, 8),
        "num_blocks": 1,
        "mlp_units": 32,
        "refiner_spacings": (2.0,),
        "refiner_units": 16,
    },
    "vinloc_links": {"num_blocks": 1},
}
TRP = np.array([[50, 40, 20], [-45, 55, 22], [-40, -50, 18], [55, -35, 24]], "float32")
UE = np.array([[10, 20, 1.5], [-25, 5, 1.5], [5, -30, 1.5]], "float32")


def line_of_sight(rows, trps):
    """CIRs [samples, trps, 1, taps, 2] and positions of links in line of sight."""
    position = np.stack([TRP[list(chosen)] for chosen in trps])
    distance = np.linalg.norm(UE[list(rows), None] - position, axis=-1)
    delay = distance / SPEED_OF_LIGHT
    taps = np.arange(NUM_TAPS) / SAMPLING_RATE
    cir = np.sinc(BANDWIDTH * (taps - delay[..., None])) * 1e-4 / distance[..., None]
    cir = cir * np.exp(1j * np.arange(len(TRP))[: cir.shape[1], None])
    cir = np.stack([cir.real, cir.imag], -1).astype("float32")
    return {"cir": cir[:, :, None], "trp_position": position}


def measured(rows, trps):
    """The same links as measurements; of the first TRP nothing is heard."""
    position = np.stack([TRP[list(chosen)] for chosen in trps])
    way = UE[list(rows), None] - position
    distance = np.linalg.norm(way, axis=-1, keepdims=True)
    power, tof = -60 - 20 * np.log10(distance), distance / SPEED_OF_LIGHT
    link = np.concatenate([power, tof, way / distance], axis=-1).astype("float32")
    heard = np.array([[trp > 0 for trp in chosen] for chosen in trps])
    return {
        "link": np.where(heard[..., None], link, 0),
        "trp_heard": heard,
        "trp_position": position,
    }


SAMPLES = {"cir_tokens": line_of_sight, "link_measurements": measured}
CIR_NUMBERS = {"num_taps": NUM_TAPS, "sampling_rate": SAMPLING_RATE, "num_ant": 1}
NUMBERS = {"cir_tokens": CIR_NUMBERS, "link_measurements": {"num_trps": 3}}


def to_ragged(inputs):
    return {
        name: tf.RaggedTensor.from_tensor(value, ragged_rank=1)
        for name, value in inputs.items()
    }


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    keras.utils.set_random_seed(0)
    model_class = get_model_class(request.param)
    parameters = inspect.signature(model_class).parameters
    numbers = NUMBERS[model_class.features]
    built = model_class.from_preset(
        region=REGION,
        **{name: value for name, value in numbers.items() if name in parameters},
        **SMALLER.get(request.param, {}),
    )
    num_trps = built.fixed_num_trps or 4
    sample = SAMPLES[built.features](range(3), [range(num_trps)] * 3)
    adapted = (to_ragged(sample), {"position": UE})
    built.adapt(tf.data.Dataset.from_tensors(adapted))
    return built


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_models_may_know_of_a_place(name):
    """Whether walls reflect, and whether all samples are of one place."""
    module, attribute = SCENARIOS[name].split(":")
    scenario = getattr(importlib.import_module(module), attribute)
    expected = {"cities": (True, False), "inf_dh": (False, True)}
    assert (scenario.has_walls, scenario.is_one_place) == expected.get(
        name, (True, True)
    )


@contextlib.contextmanager
def eagerly():
    """Without compilation, where a model is called a few times only."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def eager():
    with eagerly():
        yield


@pytest.fixture
def inputs(model):
    """Two samples of three TRPs each, padded to four with nonsense."""
    samples = SAMPLES[model.features]((0, 1), [(0, 1, 2), (1, 2, 3)])
    nonsense = {"cir": 0.3, "link": 0.3, "trp_heard": True, "trp_position": 1e3}
    padded = {}
    for name, value in samples.items():
        pad = [[0, 0], [0, 1]] + [[0, 0]] * (value.ndim - 2)
        padded[name] = np.pad(value, pad, constant_values=nonsense[name])
    return {**padded, "trp_mask": np.array([[True, True, True, False]] * 2)}


@pytest.mark.usefixtures("eager")
def test_says_whether_it_gives_a_density(model, inputs):
    outputs = model(inputs)
    assert model.gives_density == ("covariance" in outputs)
    assert model.gives_density or "map" not in outputs


@pytest.mark.usefixtures("eager")
def test_padded_ragged_and_permuted_inputs_give_the_same(model, inputs):
    expected = np.asarray(model(inputs)["position"])
    assert expected.shape == (2, 3)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    ragged = to_ragged(
        {name: value[:, :3] for name, value in inputs.items() if name != "trp_mask"}
    )
    np.testing.assert_allclose(model(ragged)["position"], expected, atol=5e-3)
    permuted = {name: value[:, [3, 1, 0, 2]] for name, value in inputs.items()}
    np.testing.assert_allclose(model(permuted)["position"], expected, atol=5e-3)


@pytest.mark.usefixtures("eager")
def test_save_and_load_gives_the_same(model, inputs, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(
        np.asarray(loaded(inputs)["position"]), np.asarray(model(inputs)["position"])
    )


@pytest.mark.usefixtures("eager")
def test_who_does_not_see_where_the_trps_stand_says_so(model, inputs):
    """It is not to be trained on samples that are turned."""
    expected = np.asarray(model(inputs)["position"])
    moved = {**inputs, "trp_position": inputs["trp_position"] + np.float32([9, -7, 0])}
    with contextlib.suppress(UserError):  # of those that refuse unknown places
        found = np.asarray(model(moved)["position"])
        if np.abs(found - expected).max() < 1e-3:
            assert not model.use_trp_positions
    knows_places = isinstance(model, Fingerprint) or model.name == "pdp_transformer"
    assert model.use_trp_positions != knows_places


def test_the_arguments_of_a_model_are_kept_as_json(model):
    arguments = model_arguments(model)
    assert arguments["region"] == REGION and "name" not in arguments
    again = type(model)(**arguments)
    assert model_arguments(again) == arguments


def test_keras_never_compiles_the_ragged_front(model):
    from keras.src.trainers.trainer import model_supports_jit

    assert not model_supports_jit(model)  # else it would, where there is a GPU


def test_a_step_of_training_leaves_a_finite_loss(model, inputs):
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss={"position": EuclideanDistance()},
        metrics={"position": HorizontalRMSE()},
    )
    with eagerly():
        position = np.asarray(model(inputs, training=model.is_trainable)["position"])
    targets = {"position": UE[:2]}
    if model.is_trainable:
        logs = model.fit(inputs, targets, epochs=2, verbose=0).history
        assert np.isfinite(logs["loss"]).all() and logs["loss"][0] != logs["loss"][1]
    else:
        logs = model.evaluate(inputs, targets, verbose=0, return_dict=True)
    assert model.is_trainable == bool(model.trainable_weights)
    assert 0 <= np.ravel(logs["loss"])[0] < 150
    (rmse,) = (np.ravel(logs[name])[0] for name in logs if name.endswith("rmse"))
    rmse_of_call = error_metrics(horizontal_errors(UE[:2], position))["rmse"]
    assert rmse == pytest.approx(rmse_of_call, rel=0.1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_streamed_samples_are_those_of_the_contract(name):
    scenario = get_scenario(name, small=True)
    assert scenario.name == name
    spec = scenario.stream().element_spec
    assert set(spec) == set(FIELDS)
    for field, expected in FIELDS.items():
        assert spec[field].dtype == expected.dtype
        shape = expected.element_shape(scenario.num_paths)
        assert spec[field].shape.as_list() == list(shape)
    batch = scenario.batches(4).element_spec
    per_trp = {name for name, expected in FIELDS.items() if expected.is_per_trp}
    ragged = {field for field in batch if isinstance(batch[field], tf.RaggedTensorSpec)}
    assert ragged == per_trp
