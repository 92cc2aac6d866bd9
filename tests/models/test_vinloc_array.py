import keras
import numpy as np
import pytest
import vinloc_samples
from keras import ops

from sionna_loc import saving
from sionna_loc.checks import UserError
from sionna_loc.models.vinloc import VInLoc

ARRAY = {"num_ant": 8, "array_shape": (2, 4), "unet_fold": 4}


class WithoutEmbeddings(VInLoc):
    """Whose tokens say where TRPs are, and nothing of their CIRs."""

    def _embed_cir(self, response):
        return ops.zeros((ops.shape(response)[0], self.cir_units))


def make(model_class=VInLoc, **options):
    return vinloc_samples.make(1, model_class, **{**ARRAY, **options})


def samples():
    rng = np.random.default_rng(0)
    cir = rng.normal(size=(2, 3, 8, 32, 2)).astype("float32") * 1e-5
    return {"cir": cir, "trp_position": rng.uniform(0, 100, (2, 3, 3)).astype("f")}


@pytest.mark.parametrize("fold_antennas", [False, True])
def test_beams_and_antennas_are_different_inputs(fold_antennas):
    with_beams = make(fold_antennas=fold_antennas)
    without = make(fold_antennas=fold_antennas, aoa_tof=False)
    without.set_weights(with_beams.get_weights())
    there = np.asarray(with_beams(samples())["position"])
    here = np.asarray(without(samples())["position"])

    assert there.shape == (2, 3)
    assert np.abs(there - here).max() > 1e-3


@pytest.mark.parametrize("fold_antennas", [False, True])
def test_every_antenna_is_seen(fold_antennas):
    model = make(fold_antennas=fold_antennas, aoa_tof=False)
    whole = samples()
    before = np.asarray(model(whole)["position"])
    for antenna in range(8):
        changed = {**whole, "cir": whole["cir"].copy()}
        changed["cir"][:, :, antenna] *= 0.3
        after = np.asarray(model(changed)["position"])
        assert np.abs(after - before).max() > 1e-4


def test_saved_and_loaded_gives_the_same(tmp_path):
    model = make()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        np.asarray(loaded(samples())["position"]),
        np.asarray(model(samples())["position"]),
        rtol=1e-5,
    )


@pytest.mark.parametrize("shape", [(2, 3), (8,), (2, 2, 2)])
def test_an_array_of_other_antennas_is_refused(shape):
    with pytest.raises(UserError, match="rows x columns of the 8 antennas"):
        make(array_shape=shape)


@pytest.mark.usefixtures("eager")
def test_refinement_looks_at_the_strongest_trps_alone():
    models = {count: make(refiner_trps=count) for count in (None, 3, 2)}
    whole = samples()
    whole["trp_position"] *= 0.2  # no delay is beyond the taps
    whole["cir"][:, 1] *= 0.1  # the weakest of three
    weaker = {**whole, "cir": whole["cir"].copy()}
    weaker["cir"][:, 1] *= 0.9  # which leaves its strongest tap where it is
    position = {c: np.asarray(model(whole)["position"]) for c, model in models.items()}
    np.testing.assert_array_equal(position[3], position[None])
    assert np.abs(position[2] - position[None]).max() > 1e-3

    # Where the step alone sees CIRs, it sees nothing of the third.
    for count, sees in ((3, True), (2, False)):
        model = make(WithoutEmbeddings, refiner_trps=count)
        before, after = (np.asarray(model(x)["position"]) for x in (whole, weaker))
        if sees:
            assert np.abs(after - before).max() > 1e-3
        else:
            np.testing.assert_array_equal(after, before)


REFINED = {"refiner_images": 2, "refiner_trps": None}


def saved(path, **options):
    model = make(**REFINED, **options)
    for weight in model.trainable_weights:
        weight.assign(1.1 * weight)
    model.save(path)
    return model, str(path)


def without_noise(**options):
    return VInLoc(**{**vinloc_samples.SMALL, **ARRAY, **REFINED, **options})


def test_directions_count_for_nothing_in_weights_that_do_not_know_them(tmp_path):
    known, path = saved(tmp_path / "model.keras", use_angles=False)
    model = make(**REFINED, use_angles=True)
    assert np.abs(position_of(model) - position_of(known)).max() > 1e-2
    saving.set_initial_weights(model, path)
    np.testing.assert_allclose(position_of(model), position_of(known), atol=1e-3)


def test_peaks_begin_untrained_beside_weights_that_do_not_know_them(tmp_path):
    known, path = saved(tmp_path / "model.keras", use_angles=True)
    model = make(**REFINED, use_angles=True, refiner_peaks=3)
    untrained = [x.numpy() for x in model._refiners[-1]._link_out.weights]
    saving.set_initial_weights(model, path)
    kernel, bias = (x.numpy() for x in model._refiners[-1]._link_out.weights)
    old_kernel, old_bias = (x.numpy() for x in known._refiners[-1]._link_out.weights)
    width = len(old_bias)
    np.testing.assert_array_equal(kernel[:, :width], old_kernel)
    np.testing.assert_array_equal(bias[:width], old_bias)
    np.testing.assert_array_equal(bias[width:], untrained[1][width:])
    np.testing.assert_array_equal(kernel[:, width:], untrained[0][:, width:])
    assert len(bias) == width + 3
    for weight, old in zip(model.weights, known.weights, strict=True):
        if weight.shape == old.shape:
            np.testing.assert_array_equal(weight, old)


def test_a_map_says_nothing_to_begin_with(tmp_path):
    known, path = saved(tmp_path / "model.keras", use_angles=False)
    model = without_noise(use_angles=True, map_cells=(2, 6), map_units=5)
    saving.set_initial_weights(model, path)
    np.testing.assert_allclose(position_of(model), position_of(known), atol=1e-3)


@pytest.mark.parametrize(
    ("region", "is_taken"),
    [
        (vinloc_samples.REGION, True),
        ([[0, -50, 0], [400, 50, 30]], False),  # other numbers of rows and columns
        ([[100, -100, 0], [300, 100, 30]], False),  # as many
    ],
)
def test_a_map_is_taken_over_where_it_is_of_the_same_region(tmp_path, region, is_taken):
    known, path = saved(tmp_path / "model.keras", map_cells=(2, 6))
    model = without_noise(map_cells=(2, 6), region=region)
    initial = [x.numpy() for x in model.place_map.weights]
    saving.set_initial_weights(model, path)
    expected = known.place_map.weights if is_taken else initial
    for weight, there in zip(model.place_map.weights, expected, strict=True):
        np.testing.assert_array_equal(weight, there)
    for refiner, other in zip(model._refiners, known._refiners, strict=True):
        assert np.any(refiner._place_view._link.kernel) == is_taken
        np.testing.assert_array_equal(refiner._link_in.kernel, other._link_in.kernel)


def test_a_model_with_a_map_can_begin_to_see_more(tmp_path):
    known, path = saved(tmp_path / "model.keras", map_cells=(2, 6))
    model = without_noise(map_cells=(2, 6), refiner_peaks=3)
    saving.set_initial_weights(model, path)
    for weight, there in zip(
        model.place_map.weights, known.place_map.weights, strict=True
    ):
        np.testing.assert_array_equal(weight, there)


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ({"refiner_peaks": 3}, {"refiner_peaks": 3, "use_angles": True}),
        ({"use_angles": True}, {"use_angles": False, "refiner_peaks": 3}),
        ({}, {"use_angles": True, "refiner_rays": 2}),
        ({"map_cells": (4,)}, {"map_cells": (8,)}),
        ({"map_cells": (4,)}, {"map_cells": (4,), "map_units": 8}),
        ({"map_cells": (4,)}, {}),
    ],
)
def test_weights_that_would_be_taken_for_others_do_not_fit(tmp_path, there, here):
    """What is seen besides would lie between, or replace, what has been seen."""
    _, path = saved(tmp_path / "model.keras", **there)
    with pytest.raises(UserError, match=r"do not fit; .* differ in"):
        saving.set_initial_weights(make(**REFINED, **here), path)


def position_of(model):
    return np.asarray(model(samples())["position"])
