import keras
import numpy as np
import pytest
from free_space_links import NUMBERS, batches, grid, links

from sionna_loc.checks import UserError
from sionna_loc.losses import EuclideanDistance
from sionna_loc.models.pdp_transformer import PdpTransformer


def make(**options):
    keras.utils.set_random_seed(0)
    sizes = {"width": 32, "num_blocks": 1, "num_heads": 2, "hidden_units": 32}
    model = PdpTransformer(**{**NUMBERS, **sizes, **options})
    model.adapt(batches(grid(4.0), 16))
    return model


def locate(model, inputs):
    return np.asarray(model.predict_on_batch(inputs)["position"])


def test_neither_places_of_trps_nor_phases_count():
    model, ue = make(), grid(9.0)
    inputs, moved = links(ue), links(ue)
    moved["trp_position"] = moved["trp_position"] * 0.5 + 3.0
    moved["cir"] = moved["cir"][..., ::-1] * -1.0
    np.testing.assert_allclose(locate(model, moved), locate(model, inputs), atol=1e-4)
    weaker = {**inputs, "cir": inputs["cir"] * 0.3}
    difference = locate(model, weaker) - locate(model, inputs)
    assert np.abs(difference).max() > 1e-2


def test_it_learns():
    model = make()
    # Each UE hears the same TRPs, which profiles alone cannot tell apart: x and y
    # are known up to the mirror images of the rectangle that the TRPs form.
    ue = grid(2.0)
    ue = ue[(ue[:, 0] < 20) & (ue[:, 1] < 10)]
    model.compile(keras.optimizers.Adam(3e-3), {"position": EuclideanDistance()})
    ((inputs, targets),) = batches(ue, 50)
    for _ in range(200):
        model.train_on_batch(inputs, targets)
    error = np.linalg.norm(locate(model, links(ue)) - ue, axis=1)
    middle = np.linalg.norm(ue - ue.mean(axis=0), axis=1)
    assert np.mean(error) < 0.3 * np.mean(middle)


def test_dropout_acts_in_training_only():
    model, inputs = make(dropout=0.4), links(grid(9.0))
    still = np.asarray(model(inputs)["position"])
    np.testing.assert_array_equal(np.asarray(model(inputs)["position"]), still)
    trained = np.asarray(model(inputs, training=True)["position"])
    assert np.abs(trained - still).max() > 1e-2


def test_other_cirs_and_wrong_sizes_are_refused():
    inputs = links(grid(9.0))
    with pytest.raises(UserError, match="16 taps"):
        PdpTransformer(**{**NUMBERS, "num_taps": 16}, width=8, num_heads=2)(inputs)
    with pytest.raises(UserError, match="multiple of `num_heads`"):
        make(width=30, num_heads=4)
    with pytest.raises(UserError, match="width=0"):
        make(width=0)
