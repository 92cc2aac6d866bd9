"""HypLoc and the dense networks it is compared with."""

import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.models.hyploc import HypLoc
from sionna_loc.models.mlp import Mlp

REGION = [[0, 0, 0], [400, 200, 4]]


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def make_inputs(num_samples, num_trps=7, seed=0):
    generator = np.random.default_rng(seed)
    shape = (num_samples, num_trps)
    direction = generator.normal(size=(*shape, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    power, tof = generator.uniform(-120, -60, shape), generator.uniform(0, 1e-6, shape)
    link = np.concatenate([np.stack([power, tof], axis=-1), direction], axis=-1)
    heard = generator.random(shape) < 0.8
    return {
        "link": np.where(heard[..., None], link, 0).astype("float32"),
        "trp_heard": heard,
        "trp_position": generator.uniform(0, 200, (*shape, 3)).astype("float32"),
    }


def test_parameters_are_those_of_table_1():
    model = HypLoc.from_preset(region=REGION)
    assert count(model.trainable_weights) == 249_442
    assert count(model.hypernetwork.trainable_weights) == 247_264
    assert count(model.head.trainable_weights) == 2_178
    assert count(model.hypernetwork.layers[-1].trainable_weights) == 235_296
    assert model.num_inputs == 56
    assert model.main.num_parameters(56) == 1_824
    assert [layer.units for layer in model.hypernetwork.layers] == [64, 128, 1824]
    names = [layer.activation.__name__ for layer in model.hypernetwork.layers]
    assert names == ["gelu", "gelu", "sigmoid"]
    assert model.main.activation.__name__ == "gelu"
    names = [layer.activation.__name__ for layer in model.head.layers]
    assert names == ["gelu", "gelu", "linear"]


@pytest.mark.parametrize(("preset", "number"), [("mlp", 4_002), ("mlp_plus", 251_942)])
def test_dense_networks_have_the_papers_parameters(preset, number):
    model = Mlp.from_preset(preset, region=REGION)
    assert count(model.trainable_weights) == number


def test_hyploc_is_its_three_networks_one_after_another():
    keras.utils.set_random_seed(0)
    model = HypLoc.from_preset(region=REGION)
    inputs = make_inputs(3)
    position = model(inputs)["position"].numpy()
    mask = np.ones((3, 7), bool)
    vector = model.vector(*(inputs[name] for name in inputs), mask).numpy()
    made = model.hypernetwork(vector).numpy()
    kernel = made[:, : 56 * 32].reshape(3, 56, 32)
    hidden = np.einsum("bi,bio->bo", vector, kernel) + made[:, 56 * 32 :]
    plan = model.head(keras.activations.gelu(hidden)).numpy()
    np.testing.assert_allclose(position[:, :2], [200, 100] + 200 * plan, rtol=1e-4)
    np.testing.assert_array_equal(position[:, 2], 2)


@pytest.mark.parametrize("model_class", [HypLoc, Mlp])
def test_every_weight_learns(model_class):
    keras.utils.set_random_seed(0)
    model = model_class.from_preset(region=REGION)
    inputs = make_inputs(64)
    targets = {"position": np.random.default_rng(1).uniform(0, 200, (64, 3))}
    model.adapt([(inputs, targets)])
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.Adam(1e-3), loss={"position": "mse"})
    losses = model.fit(inputs, targets, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    for old, new in zip(before, model.trainable_weights, strict=True):
        assert np.abs(new.numpy() - old).max() > 1e-4


@pytest.mark.parametrize("model_class", [HypLoc, Mlp])
def test_another_number_of_trps_is_refused(model_class):
    model = model_class.from_preset(region=REGION)
    message = "takes 7 TRPs, heard or not, in each sample. Received: num_trps=5"
    with pytest.raises(UserError, match=message):
        model.predict_on_batch(make_inputs(2, num_trps=5))
    with pytest.raises(UserError, match=message):
        model.adapt([(make_inputs(2, num_trps=5), {})])
    five = model_class.from_preset(region=REGION, num_trps=5)
    assert five.predict_on_batch(make_inputs(2, 5))["position"].shape == (2, 3)


def test_missing_measurements_are_one_clear_line():
    inputs = make_inputs(2)
    inputs.pop("link")
    message = "need the entries 'link', 'trp_heard', 'trp_position'"
    with pytest.raises(UserError, match=message):
        HypLoc.from_preset(region=REGION).predict_on_batch(inputs)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: HypLoc(REGION, num_trps=0), "num_trps=0"),
        (lambda: HypLoc(REGION, main_units=0), "main_units=0"),
        (lambda: HypLoc(REGION, hyper_units=(64, 0)), "hyper_units=0"),
        (lambda: Mlp(REGION, units=(0,)), "units=0"),
        (lambda: Mlp(REGION, units=32), "`units` must be a list"),
    ],
)
def test_sizes_that_cannot_be_are_one_clear_line(build, message):
    with pytest.raises(UserError, match=message):
        build()
