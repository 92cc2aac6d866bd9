import keras
import numpy as np
import pytest
from free_space_links import NUMBERS, TRP, batches, grid, links

from sionna_loc.checks import UserError
from sionna_loc.losses import EuclideanDistance
from sionna_loc.models.resnet_fingerprint import ResNetFingerprint

THREE = [(0, 1, 3), (1, 2, 3)]


def make(**options):
    keras.utils.set_random_seed(0)
    sizes = {"filters": (8, 16), "tap_fold": 4, "head_units": 32}
    numbers = {**NUMBERS, "num_sites": len(TRP), "num_trps": len(TRP)}
    model = ResNetFingerprint(**{**numbers, **sizes, **options})
    model.adapt(batches(grid(4.0), 16, options.pop("trps", None)))
    return model


def locate(model, *args):
    return np.asarray(model.predict_on_batch(links(*args))["position"])


@pytest.mark.parametrize("slots", ["own", "drawn"])
def test_it_learns_a_site_by_heart(slots):
    model, ue = make(slots=slots), grid(2.0)
    model.compile(keras.optimizers.Adam(3e-3), {"position": EuclideanDistance()})
    data = batches(ue, 40)
    for _ in range(30):
        for inputs, targets in data:
            model.train_on_batch(inputs, targets)
    error = np.linalg.norm(locate(model, ue) - ue, axis=1)
    assert np.mean(error) < 3.0  # always in the middle: 11 m


def test_own_slots_do_not_depend_on_the_order_but_drawn_ones_do():
    ue = grid(9.0)
    straight, turned = [range(4)] * len(ue), [(3, 1, 0, 2)] * len(ue)
    own, drawn = make(slots="own"), make(slots="drawn")
    np.testing.assert_allclose(locate(own, ue, straight), locate(own, ue, turned))
    difference = locate(drawn, ue, straight) - locate(drawn, ue, turned)
    assert np.abs(difference).max() > 1e-2


def test_own_slots_take_any_of_the_trps_and_miss_those_that_are_absent():
    model, ue = make(slots="own"), grid(9.0)[:2]
    some = locate(model, ue, THREE)
    assert np.isfinite(some).all()
    assert np.abs(some - locate(model, ue)).max() > 1e-2


def test_drawn_slots_refuse_another_number_of_trps():
    model, ue = make(slots="drawn"), grid(9.0)[:2]
    assert model.fixed_num_trps == 4
    assert make(slots="own").fixed_num_trps is None
    with pytest.raises(UserError, match=r"needs 4 TRPs in each sample.*num_trps=3"):
        locate(model, ue, THREE)


def test_trps_at_ever_new_places_are_no_fingerprint():
    moving = batches(grid(4.0), 10)
    for step, (inputs, _) in enumerate(moving):
        inputs["trp_position"] = inputs["trp_position"] + float(step)
    model = ResNetFingerprint(**NUMBERS, num_sites=4)
    with pytest.raises(UserError, match="needs TRPs at fixed places"):
        model.adapt(moving)


def test_rows_of_the_image_are_trps_and_columns_are_taps():
    model = make(slots="drawn", tap_fold=4)
    response = np.arange(4 * 32 * 3, dtype="float32").reshape(1, 4, 96)
    image = np.asarray(model._to_image(response))
    assert image.shape == (1, 4, 8, 12)
    # Row 2, column 5: taps 20 to 23 of the third TRP, three values each.
    np.testing.assert_array_equal(image[0, 2, 5], 2 * 96 + 20 * 3 + np.arange(12))


def test_presets_and_refusals():
    with pytest.raises(UserError, match="tap_fold=5, num_taps=32"):
        make(tap_fold=5)
    with pytest.raises(UserError, match="'own' or 'drawn'"):
        make(slots="any")
    paper = ResNetFingerprint.from_preset("resnet18", **NUMBERS)
    assert len([w for w in paper.trainable_weights if w.path.endswith("kernel")]) > 17
