import keras
import numpy as np
import pytest
from link_samples import REGION, make_inputs

from sionna_loc.checks import UserError
from sionna_loc.models.hyploc_set import HypLocSet


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    built = HypLocSet.from_preset(region=REGION)
    built.adapt([make_inputs(64, 5)])
    return built


def test_with_a_head_of_zeros_the_position_is_where_the_links_lead_to(model):
    for weight in model.head.layers[-1].trainable_weights:
        weight.assign(keras.ops.zeros_like(weight))
    inputs, targets = make_inputs(6, 4, seed=1)
    position = model(inputs)["position"]
    np.testing.assert_allclose(position, targets["position"], atol=1e-2)


def test_trps_that_hear_nothing_have_a_say_but_no_point(model):
    inputs, _ = make_inputs(3, 4, seed=2, heard=0.0)
    moved = {**inputs, "trp_position": inputs["trp_position"].copy()}
    moved["trp_position"][:, 1:, 0] += 30.0
    before, after = (model(x)["position"].numpy() for x in (inputs, moved))
    assert np.abs(before - after).max() > 1e-2
    for weight in model.head.layers[-1].trainable_weights:
        weight.assign(keras.ops.zeros_like(weight))
    before, after = (model(x)["position"].numpy() for x in (inputs, moved))
    np.testing.assert_allclose(before, after, atol=1e-2)


@pytest.mark.parametrize("num_trps", [1, 3, 9])
def test_any_number_of_trps(model, num_trps):
    inputs, _ = make_inputs(4, num_trps)
    position = model.predict_on_batch(inputs)["position"]
    assert position.shape == (4, 3) and np.isfinite(position).all()
    assert model.fixed_num_trps is None


def test_it_learns_and_every_weight_with_it(model):
    inputs, targets = make_inputs(64, 5)
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.Adam(1e-3), loss={"position": "mse"})
    losses = model.fit(inputs, targets, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 5
    for old, new in zip(before, model.trainable_weights, strict=True):
        if new.path.startswith("choice") and new.shape == (1,):
            continue  # a softmax does not see what is added to all scores
        assert np.abs(new.numpy() - old).max() > 1e-4, new.path


def test_sizes_that_cannot_be_are_one_clear_line():
    with pytest.raises(UserError, match="units=0"):
        HypLocSet(REGION, units=0)
    with pytest.raises(UserError, match="hyper_units=-1"):
        HypLocSet(REGION, hyper_units=-1)
    with pytest.raises(UserError, match="need the entries 'link'"):
        HypLocSet(REGION).predict_on_batch({"trp_position": np.zeros((1, 2, 3))})
