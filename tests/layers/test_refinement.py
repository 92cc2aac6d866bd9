import keras
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.refinement import (
    PositionRefiner,
    weighted_step,
)


def test_weighted_step_solves_the_least_squares_problem():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(5, 6, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    longer, weight = rng.normal(size=(5, 6)), rng.uniform(0.1, 1, (5, 6))
    stiffness = rng.uniform(0, 0.5, (5, 3))
    step = weighted_step(
        *(a.astype("f") for a in (direction, longer, weight, stiffness))
    )
    for k in range(5):
        matrix = np.concatenate(
            [direction[k] * weight[k, :, None] ** 0.5, np.diag(stiffness[k] ** 0.5)]
        )
        target = np.concatenate([-longer[k] * weight[k] ** 0.5, np.zeros(3)])
        expected = np.linalg.lstsq(matrix, target, rcond=None)[0]
        np.testing.assert_allclose(step[k], expected, atol=5e-3)


def test_weighted_step_undoes_a_small_error():
    """Exact ranges of four TRPs lead back to where the UE is."""
    trp = np.array([[80, 0, 10], [-70, 30, 0], [0, -90, 20], [10, 60, -40]], "f")
    true, estimate = np.array([3.0, 4, 1], "f"), np.array([3.5, 3.2, 1.4], "f")
    towards = trp - estimate
    distance = np.linalg.norm(towards, axis=-1, keepdims=True)
    longer = np.linalg.norm(trp - true, axis=-1) - distance[:, 0]
    ones, none = np.ones((1, 4), "f"), np.zeros((1, 3), "f")
    step = weighted_step((towards / distance)[None], longer[None], ones, none)
    np.testing.assert_allclose(estimate + step[0], true, atol=0.02)


@pytest.fixture
def refiner():
    keras.utils.set_random_seed(0)
    return PositionRefiner(
        16, 1, 2, 13, 1.0, 2, taps_per_metre=200e6 / SPEED_OF_LIGHT, scale=50.0
    )


def arguments(size=512, num_trps=4):
    """Estimates some metres off, and the responses of links in line of sight."""
    rng = np.random.default_rng(2)
    true = rng.uniform(-0.5, 0.5, (size, 3))
    true[:, 2] = 0
    height = np.full((size, num_trps, 1), 0.3)
    trp = np.concatenate([rng.uniform(-1, 1, (size, num_trps, 2)), height], -1)
    delay = np.linalg.norm(trp - true[:, None], axis=-1) * 50.0 * 200e6 / SPEED_OF_LIGHT
    response = np.sinc((np.arange(128) - delay[..., None]) / 2)[..., None]
    estimate = true + rng.uniform(-0.05, 0.05, true.shape) * [1, 1, 0]
    values = estimate, trp, response, np.zeros_like(trp), np.zeros_like(true)
    mask = np.ones((size, num_trps), bool)
    return [*(a.astype("f") for a in values), mask], true.astype("f")


def test_untrained_refinement_changes_nothing(refiner):
    values, _ = arguments(8)
    np.testing.assert_allclose(refiner(*values), values[0], atol=5e-3)


def test_state_beside_the_estimate(refiner):
    """What a step knows differs from sample to sample; the estimate is the same."""
    values, _ = arguments(8)
    expected = refiner(*values)
    twin = PositionRefiner(**{**refiner.get_config(), "return_state": True})
    twin.build(*(value.shape for value in values))
    twin.set_weights(refiner.get_weights())
    estimate, state = twin(*values)
    np.testing.assert_array_equal(estimate, expected)
    assert state.shape == (8, 16) and np.ptp(state, axis=0).min() > 1e-3
    assert twin.compute_output_shape((8, 3)) == ((8, 3), (8, 16))
    assert refiner.compute_output_shape((8, 3)) == (8, 3)


def test_config_round_trip(refiner):
    for return_state in (False, True):
        config = {**refiner.get_config(), "return_state": return_state}
        assert PositionRefiner.from_config(config).get_config() == config


def test_learns_ranging_from_few_samples(refiner):
    values, true = arguments()
    refiner(*(a[:2] for a in values))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.refiner = refiner

        def call(self, inputs):
            return self.refiner(*inputs)

    model = Model()
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    seen, unseen = (
        [a[part] for a in values] for part in (slice(384), slice(384, None))
    )
    model.fit(seen, true[:384], batch_size=64, epochs=30, verbose=0)

    def error(position):
        return np.linalg.norm(position - true[384:], axis=-1).mean() * 50.0

    assert error(unseen[0]) > 1.5
    assert error(model.predict(unseen, verbose=0)) < error(unseen[0]) / 3


IMAGES = {"num_rays": 2, "num_images": 2, "scale": 50.0, "taps_per_metre": 2 / 3}


def refiner_with_images(window=13, channels=3, trusted=None, longer=0.0):
    """A step of one weight each; with `trusted`, that ray alone counts.

    Args:
        trusted: of the rays direct, first image, second image, free.
        longer: [taps], whole. By how much the network finds all ranges longer.
    """
    keras.utils.set_random_seed(0)
    refiner = PositionRefiner(16, 1, 2, window, 1.0, **IMAGES)
    links = (None, None, 3), (None, None, 128, channels), (None, None, 4), (None, 5)
    refiner.build((None, 3), *links)
    if trusted is None:
        for weight in refiner.trainable_weights:
            weight.assign_add(keras.random.normal(weight.shape, stddev=0.1))
        return refiner
    bias = np.zeros((4, window + 5), "f")
    bias[:, :window][:, window // 3 + longer] = 50.0
    bias[:, window] = -50.0
    bias[trusted, window] = 10.0
    bias[:, window + 1 : window + 4] = 0.5  # turns, of the free ray alone
    bias[:, window + 4] = 0.02  # by which it alone is shorter
    refiner._link_out.kernel.assign(np.zeros_like(refiner._link_out.kernel))
    refiner._link_out.bias.assign(bias.ravel())
    refiner._set_out.bias.assign([0, 0, 0, -50, -50, -50])
    return refiner


def links_with_images(channels=3, num_trps=3, size=2):
    """TRPs beside estimates, images of two walls each, CIRs of noise."""
    rng = np.random.default_rng(3)
    estimate = rng.uniform(-0.2, 0.2, (size, 3))
    trp = estimate[:, None] + rng.uniform(0.1, 0.3, (size, num_trps, 3))
    image = estimate[:, None, None] + rng.uniform(1, 1.5, (size, num_trps, 2, 3))
    response = rng.uniform(size=(size, num_trps, 128, channels))
    known = np.zeros((size, num_trps, 4)), np.zeros((size, 5))
    values = [x.astype("f") for x in (estimate, trp, response, *known)]
    return [*values, np.ones((size, num_trps), bool), image.astype("f")]


@pytest.mark.parametrize(
    ("ray", "expected"),
    [(0, -0.06), (1, -0.06), (2, -0.06), (3, -0.04 * 2.75**0.5 / 2.5)],
)
def test_ranges_of_a_ray_alone_locate(ray, expected):
    """TRP (0) or image (1, 2) along each axis, two taps of 1.5 m farther than it seems.

    The free ray (3) of the link along the first axis comes from (1.5, 0.5, 0.5).
    """
    values = links_with_images()
    along_axes = values[0][:, None] + 2 * np.eye(3, dtype="f")
    if ray in (0, 3):
        values[1] = along_axes
    else:
        values[-1][:, :, ray - 1] = along_axes
    refined = refiner_with_images(trusted=ray, longer=2)(*values)
    np.testing.assert_allclose(
        refined - values[0], np.full((2, 3), expected), rtol=0.01
    )


def test_magnitudes_around_the_delay_of_an_image_are_seen():
    """Of all antennas, and nothing else of the CIR there."""
    values = links_with_images(channels=6)
    values[-1][:, :, 0] = values[0][:, None] + [0, 1.2, 0]  # 60 m: tap 40
    refiner = refiner_with_images(channels=6)
    expected = np.asarray(refiner(*values))
    for channel, sees in ((0, False), (2, True), (4, False), (5, True)):
        values[2] = values[2].copy()
        before = values[2][:, 0, 41, channel].copy()
        values[2][:, 0, 41, channel] = 2.0
        moved = np.abs(refiner(*values) - expected).max(axis=-1)
        assert (moved > 1e-5).all() if sees else (moved == 0).all(), channel
        values[2][:, 0, 41, channel] = before


def test_images_out_of_reach_show_nothing():
    values = links_with_images()
    values[-1][:, :, 1] = 1e5 / 50
    refiner = refiner_with_images()
    distance = np.linalg.norm(values[-1] - values[0][:, None, None], axis=-1)
    windows = np.asarray(refiner._view.around(values[2][..., 2:], distance))
    assert windows.shape == (2, 3, 2 * 13)
    assert windows[..., :13].min() > 0 and (windows[..., 13:] == 0).all()
    assert np.isfinite(refiner(*values)).all()


def test_gradients_reach_every_weight_and_every_input_of_images():
    values, refiner = links_with_images(), refiner_with_images()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(refiner(*values)))
    gradients = tape.gradient(loss, [w.value for w in refiner.trainable_weights])
    for weight, gradient in zip(refiner.trainable_weights, gradients, strict=True):
        assert np.abs(gradient).max() > 0, weight.path
        if weight is refiner._link_in.kernel:
            assert len(gradient) == 13 * 3 + 3 * 3 + 1 + 4 + 2 * (13 + 3)
            assert np.abs(gradient).max(axis=1)[-2 * (13 + 3) :].min() > 0


def test_without_images_a_step_is_what_it_was(refiner):
    """Configurations from before the option make the step that they made."""
    config = refiner.get_config()
    assert config.pop("num_images") == 0
    values, _ = arguments(8)
    expected = refiner(*values)
    twin = PositionRefiner.from_config(config)
    twin.build(*(value.shape for value in values))
    twin.set_weights(refiner.get_weights())
    np.testing.assert_array_equal(twin(*values, None), expected)


@pytest.mark.parametrize(
    "bad",
    [
        {"window": 0},
        {"num_rays": 0},
        {"spacing": 0.0},
        {"units": -1},
        {"num_images": -1},
        {"num_images": 1.0},
    ],
)
def test_bad_arguments_are_named(bad, refiner):
    config = {**refiner.get_config(), **bad}
    with pytest.raises(ValueError, match=f"Received: {next(iter(bad))}="):
        PositionRefiner(**config)


def refiner_with_peaks(trust, num_images=1):
    """A step in which the rays of peaks alone count, as far as `trust` says."""
    refiner = PositionRefiner(
        8, 1, 1, 13, 2.0, 1, 2 / 3, 50.0, num_images=num_images, num_peaks=3
    )
    links = (None, None, 3), (None, None, 128, 3), (None, None, 4), (None, 5)
    refiner.build((None, 3), *links)
    refiner._link_out.kernel.assign(np.zeros_like(refiner._link_out.kernel))
    bias = np.full(refiner._link_out.bias.shape, -50.0, "f")
    bias[len(bias) - 1 - num_images :] = trust
    refiner._link_out.bias.assign(bias)
    refiner._set_out.bias.assign([0, 0, 0, -50, -50, -50])
    return refiner


def links_with_peaks(error, sources):
    """An estimate off by `error` [m], and CIRs with a pulse from each source [m].

    Args:
        sources: [3, 2, 3]. TRP and image of each link.
    """
    true = np.array([5.0, -4, 1.5])
    taps = np.linalg.norm(sources - true, axis=-1) * 2 / 3
    level = 1 - 0.03 * (np.arange(128) - taps[..., None]) ** 2
    response = np.zeros((1, 3, 128, 3), "f")
    response[..., 2] = np.maximum(level.max(axis=1), 0)
    estimate, trp, image = (
        np.asarray(x, "f")[None] / 50
        for x in (true + error, sources[:, 0], sources[:, 1:])
    )
    known = np.zeros((1, 3, 4), "f"), np.zeros((1, 5), "f")
    return [estimate, trp, response, *known, np.ones((1, 3), bool), image], true


SOURCES = np.array(
    [
        [[60.0, 0, 30], [-80, 5, 30]],
        [[-10, 70, 25], [-15, -110, 25]],
        [[-30, -50, 45], [110, -90, 45]],
    ]
)


@pytest.mark.parametrize("trust", [(5.0, -50.0), (-50.0, 5.0), (5.0, 5.0)])
def test_peaks_give_ranges_as_they_are_measured(trust):
    """Those of TRPs, of images, or of both lead to some centimetres."""
    error = np.array([0.6, -0.5, 0.4])
    values, true = links_with_peaks(error, SOURCES)
    refined = np.asarray(refiner_with_peaks(trust)(*values))[0] * 50
    assert np.linalg.norm(refined - true) < 0.05 < np.linalg.norm(error) / 10


def test_peaks_that_are_far_from_the_delay_do_not_count():
    """With a spacing of 2 taps: one that is 30 m off counts nothing."""
    values, true = links_with_peaks([0, 0, 0], SOURCES)
    values[2] = np.roll(values[2], 20, axis=2)
    refined = np.asarray(refiner_with_peaks((5.0, -50.0))(*values))[0] * 50
    np.testing.assert_allclose(refined, true, atol=1e-3)


def test_without_peaks_their_rays_do_not_count():
    values, true = links_with_peaks([0.5, 0, 0], SOURCES)
    values[2] = np.zeros_like(values[2])
    refined = np.asarray(refiner_with_peaks((5.0, 5.0))(*values))[0] * 50
    np.testing.assert_allclose(refined, true + np.array([0.5, 0, 0]), atol=1e-4)
