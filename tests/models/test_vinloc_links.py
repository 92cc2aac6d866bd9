import keras
import numpy as np
import pytest
from link_samples import REGION, make_inputs

from sionna_loc.checks import UserError
from sionna_loc.models.vinloc_links import VInLocLinks


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    built = VInLocLinks.from_preset(region=REGION)
    built.adapt([make_inputs(64, 5)])
    return built


def set_to_zero(layer):
    for weight in layer.trainable_weights:
        weight.assign(keras.ops.zeros_like(weight))


def test_its_parts_are_vinlocs(model):
    names = [layer.__class__.__name__ for layer in model.layers]
    assert {"LocTokenEncoder", "PositionEmbedding", "TrpAnchor"} <= set(names)
    assert model.encoder.num_blocks == 3 and model.state_units == 64
    assert model.features == "link_measurements" and model.default_recipe == "hyploc"


def test_with_a_head_of_zeros_the_position_is_where_the_links_lead_to(model):
    set_to_zero(model.head.layers[-1])
    inputs, targets = make_inputs(6, 4, seed=1)
    position = model(inputs)["position"]
    np.testing.assert_allclose(position, targets["position"], atol=1e-2)


def test_who_hears_nothing_begins_amid_its_trps_and_not_at_padding(model):
    set_to_zero(model.head.layers[-1])
    inputs, _ = make_inputs(3, 4, seed=2)
    inputs["trp_heard"][:] = False
    padded = {
        name: np.pad(value, [[0, 0], [0, 2]] + [[0, 0]] * (value.ndim - 2))
        for name, value in inputs.items()
    }
    padded["trp_position"][:, 4:] = 1e4
    padded["trp_mask"] = np.array([[True] * 4 + [False] * 2] * 3)
    position = model(padded)["position"].numpy()[:, :2]
    trps = inputs["trp_position"][..., :2]
    assert (position >= trps.min(axis=1)).all() and (position <= trps.max(axis=1)).all()


def test_what_a_trp_measures_and_where_it_stands_both_count(model):
    inputs, _ = make_inputs(3, 4, seed=2)
    before = model(inputs)["position"].numpy()
    for name, change in (("link", [5.0, 0, 0, 0, 0]), ("trp_position", [0, 9.0, 0])):
        changed = {**inputs, name: inputs[name] + np.array(change, "float32")}
        after = model(changed)["position"].numpy()
        assert np.abs(after - before).max(axis=1).min() > 1e-2, name


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
        assert np.abs(new.numpy() - old).max() > 1e-4, new.path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measurement_units": 0}, "measurement_units=0"),
        ({"head_units": -1}, "head_units=-1"),
        ({"position_units": 3}, "units=3"),
        ({"num_blocks": 0}, "num_blocks=0"),
        ({"num_heads": 5}, "multiple of `num_heads`"),
        ({"norm": "none"}, "norm='none'"),
    ],
)
def test_sizes_that_cannot_be_are_one_clear_line(options, message):
    with pytest.raises(UserError, match=message):
        VInLocLinks(REGION, **options)
