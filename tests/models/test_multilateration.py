import keras
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.first_path import FirstPath
from sionna_loc.models.multilateration import Multilateration

NUM_TAPS, RATE, BANDWIDTH = 256, 200e6, 100e6
REGION = [[0.0, 0.0, 0.0], [200.0, 200.0, 3.0]]


def make_cir(delay, gain):
    """Taps [..., 1, num_taps, 2] of paths whose delays [s], gains are [..., paths]."""
    taps = np.arange(NUM_TAPS) / RATE
    pulse = np.sinc(BANDWIDTH * (taps - delay[..., None]))
    cir = np.sum(gain[..., None] * pulse, axis=-2)
    return np.stack([cir.real, cir.imag], axis=-1)[..., None, :, :].astype("float32")


def make_inputs(true, trps, excess=0.0, seed=0):
    """One path per link, `excess` [m] longer than the way to the UE."""
    ranges = np.linalg.norm(true[:, None] - trps, axis=-1) + excess
    phase = np.exp(2j * np.pi * np.random.default_rng(seed).uniform(size=ranges.shape))
    gain = 6e-4 / ranges * phase
    cir = make_cir(ranges[..., None] / SPEED_OF_LIGHT, gain[..., None])
    return {"cir": cir, "trp_position": trps.astype("float32")}


def draw(num_samples, num_trps, seed=1):
    generator = np.random.default_rng(seed)
    true = generator.uniform([10, 10, 1.5], [190, 190, 1.5], (num_samples, 3))
    trps = generator.uniform([0, 0, 10], [200, 200, 30], (num_samples, num_trps, 3))
    return true, trps


def make_model(**options):
    return Multilateration(REGION, NUM_TAPS, RATE, **options)


def errors_of(model, inputs, true):
    position = np.asarray(model(inputs)["position"])
    assert position.shape == true.shape
    np.testing.assert_allclose(position[:, 2], 1.5)
    return np.linalg.norm(position - true, axis=-1)


def test_first_path_of_overlapping_paths():
    generator = np.random.default_rng(0)
    delay = generator.uniform(10, 150, (50, 1)) + np.array([[0.0, 4.0, 11.0, 30.0]])
    amplitude = np.array([0.5, 1.0, 0.7, 0.9]) * 1e-6
    gain = amplitude * np.exp(2j * np.pi * generator.uniform(size=(50, 4)))
    layer = FirstPath(NUM_TAPS, RATE, BANDWIDTH)
    found, level = layer(make_cir(delay / RATE, gain))
    np.testing.assert_allclose(found * RATE, delay[:, 0], atol=0.02)
    np.testing.assert_allclose(level, 0.5e-6, rtol=0.02)


def test_a_path_below_the_range_of_levels_is_not_the_first():
    delay = np.array([[20.0, 40.0]])
    for weak, expected in ((0.4, 20.0), (0.1, 40.0)):
        cir = make_cir(delay / RATE, np.array([[weak, 1.0 + 0j]]))
        found, _ = FirstPath(NUM_TAPS, RATE, BANDWIDTH)(cir)
        assert float(found[0]) * RATE == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("num_trps", [4, 7, 30])
def test_exact_ranges_give_the_position_to_a_centimetre(num_trps):
    true, trps = draw(16, num_trps)
    errors = errors_of(make_model(), make_inputs(true, trps), true)
    assert np.median(errors) < 0.001
    # With few TRPs, two circles may meet elsewhere by accident.
    assert np.mean(errors < 0.01) > 0.9


def test_three_trps_in_general_position():
    true = np.array([[60.0, 80.0, 1.5], [130.0, 40.0, 1.5]])
    trps = np.array([[[0, 0, 20.0], [200, 20, 25], [90, 190, 15]]] * 2)
    assert errors_of(make_model(), make_inputs(true, trps), true).max() < 0.01


def test_70_percent_of_the_ranges_too_long():
    true, trps = draw(32, 12)
    generator = np.random.default_rng(5)
    excess = generator.exponential(60.0, (32, 12)) + 5.0
    excess[:, ::3] = 0.0  # 4 of 12 are right
    errors = errors_of(make_model(), make_inputs(true, trps, excess), true)
    assert np.median(errors) < 0.05
    assert np.mean(errors < 1.0) > 0.8


def test_order_and_padding_change_nothing():
    true, trps = draw(6, 9)
    excess = np.random.default_rng(2).exponential(60.0, (6, 9)) * (np.arange(9) > 3)
    inputs = make_inputs(true, trps, excess)
    model = make_model()
    plain = np.asarray(model(inputs)["position"])
    order = np.random.default_rng(3).permutation(9)
    turned = model({name: value[:, order] for name, value in inputs.items()})
    np.testing.assert_allclose(turned["position"], plain, atol=0.02)
    padded = {
        name: np.concatenate([value, np.ones_like(value[:, :5])], axis=1)
        for name, value in inputs.items()
    }
    padded["trp_mask"] = np.arange(14)[None].repeat(6, 0) < 9
    np.testing.assert_allclose(model(padded)["position"], plain, atol=1e-3)
    ragged = {
        name: tf.RaggedTensor.from_tensor(value) for name, value in inputs.items()
    }
    np.testing.assert_allclose(model(ragged)["position"], plain, atol=1e-3)


def test_samples_with_few_trps_stay_where_the_ranges_allow():
    """Ranges may be too long, so they bound the distance; nothing else is known."""
    true = np.array([[100.0, 40.0, 1.5], [150.0, 150.0, 1.5]])
    trps = np.array([[40.0, 2.0, 20.0], [160.0, 12.0, 20.0]])
    inputs = make_inputs(true, trps[None].repeat(2, 0))
    inputs["trp_mask"] = np.array([[True, True], [True, False]])
    position = np.asarray(make_model()(inputs)["position"])
    assert np.all((position >= REGION[0]) & (position <= REGION[1]))
    ranges = np.linalg.norm(true[:, None] - trps, axis=-1)
    distance = np.linalg.norm(position[:, None] - trps, axis=-1)
    assert np.all(distance[inputs["trp_mask"]] <= ranges[inputs["trp_mask"]] + 0.1)


@pytest.fixture(scope="module")
def adapted():
    """Calibrated where UEs are south of y = 60, at 2 m, late links 20 dB weaker."""
    generator = np.random.default_rng(7)
    true, trps = draw(256, 8, seed=8)
    true[:, 1] = generator.uniform(5, 60, 256)
    true[:, 2] = 2.0
    late = generator.uniform(size=(256, 8)) < 0.6
    inputs = make_inputs(true, trps, late * (5 + generator.exponential(30, (256, 8))))
    inputs["cir"] *= np.where(late, 0.1, 1.0)[..., None, None, None]
    model = make_model()
    model.adapt([(inputs, {"position": true.astype("float32")})])
    return model, true, inputs


def test_calibration_learns_height_places_and_levels(adapted):
    model, true, inputs = adapted
    position = np.asarray(model(inputs)["position"])
    np.testing.assert_allclose(position[:, 2], 2.0)
    distance = np.linalg.norm(position - true, axis=-1)
    assert np.median(distance) < 0.02 < np.median(errors_2d(make_model(), inputs, true))
    # A UE seen by one TRP is put where UEs are.
    alone = {name: value[:, :1] for name, value in inputs.items()}
    assert np.asarray(model(alone)["position"])[:, 1].max() < 75


def errors_2d(model, inputs, true):
    return np.linalg.norm(np.asarray(model(inputs)["position"] - true)[:, :2], axis=-1)


def test_saved_and_reloaded_it_gives_the_same(adapted, tmp_path):
    model, _, inputs = adapted
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    chosen = {name: value[:8] for name, value in inputs.items()}
    np.testing.assert_array_equal(loaded(chosen)["position"], model(chosen)["position"])
    np.testing.assert_allclose(
        loaded.predict_on_batch(chosen)["position"],
        model(chosen)["position"],
        atol=0.02,
    )


def test_it_has_nothing_to_train():
    model = Multilateration.from_preset(
        None, region=REGION, num_ant=1, num_taps=NUM_TAPS, sampling_rate=RATE
    )
    assert not model.is_trainable
    assert model.get_config()["bandwidth"] == BANDWIDTH


def test_wrong_inputs_are_refused():
    true, trps = draw(2, 3)
    inputs = make_inputs(true, trps)
    inputs["cir"] = inputs["cir"][..., :100, :]
    with pytest.raises(UserError, match="1 antennas x 256 taps"):
        make_model()(inputs)
    with pytest.raises(UserError, match="at least one batch"):
        make_model().adapt([])
    with pytest.raises(UserError, match="num_modes"):
        make_model(num_modes=0)
    with pytest.raises(UserError, match="must not exceed"):
        make_model(bandwidth=300e6)
