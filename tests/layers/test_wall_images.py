import keras
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.layers.wall_images import WallImages, learn_other_walls, received_links

TAPS_PER_METRE = 0.5
WALL_X = 40.0
MIRROR = [[-1, 0, 2 * WALL_X], [0, 1, 0]]
LENGTHS = [3, 1, 5, 0, 4]  # links of each sample


def heard(lengths, seed=0, wall_x=WALL_X):
    """Samples with a wall at x = 40, which the second antenna alone hears.

    Returns: CIRs [num_links, 2, 100, 2] and TRPs [num_links, 3], of `lengths` links
        each; UEs [num_samples, 3].
    """
    rng = np.random.default_rng(seed)
    ue = rng.uniform([-60, -60, 1], [38, 60, 2], (len(lengths), 3))
    trp = rng.uniform([-60, -60, 9], [38, 60, 11], (sum(lengths), 3))
    cir = np.zeros((len(trp), 2, 100, 2))
    for antenna, source in enumerate((trp, trp * [-1, 1, 1] + [2 * wall_x, 0, 0])):
        distance = np.linalg.norm(source - np.repeat(ue, lengths, axis=0), axis=1)
        pulse = np.sinc(np.arange(100) - TAPS_PER_METRE * distance[:, None])
        cir[:, antenna, :, antenna] = 1e-5 * pulse
    return [values.astype("f") for values in (cir, trp, ue)]


def power_of(cir):
    """Of the strongest antenna."""
    return np.square(cir).sum(axis=-1).max(axis=1)


def adapted():
    """A layer that had found other walls before."""
    layer = WallImages(2, TAPS_PER_METRE)
    layer.isometry.assign(np.ones((2, 2, 3)))
    cir, trp, ue = heard([1] * 300)
    layer.adapt(power_of(cir), trp, ue)
    return layer


def test_images_lie_behind_the_walls():
    """The wall x + y = 10 takes (1, 2, 3) to (8, 9, 3), (0, 0, 7) to (10, 10, 7)."""
    layer = WallImages(2, TAPS_PER_METRE)
    layer.isometry.assign([[[0, -1, 10], [-1, 0, 10]], MIRROR])
    trp = np.array([[1, 2, 3], [0, 0, 7]], "f")
    expected = [[[8, 9, 3], [79, 2, 3]], [[10, 10, 7], [80, 0, 7]]]
    for shape in ((2, 3), (1, 2, 3), (3, 4, 2, 3)):
        whole = np.broadcast_to(trp, shape)
        images = layer(whole)
        assert images.shape == layer.compute_output_shape(shape) == (*shape[:-1], 2, 3)
        wanted = np.broadcast_to(expected, images.shape)
        np.testing.assert_allclose(images, wanted, atol=1e-4)
    np.testing.assert_allclose(layer(trp[0]), expected[0], atol=1e-4)


def test_a_turn_is_not_its_transpose():
    """A quarter turn to the left, of two walls: (1, 2) to (-2, 1)."""
    layer = WallImages(1, TAPS_PER_METRE)
    layer.isometry.assign([[[0, -1, 0], [1, 0, 0]]])
    np.testing.assert_allclose(layer(np.array([1, 2, 3], "f")), [[-2, 1, 3]])


def test_before_adapt_and_without_walls_images_are_out_of_reach():
    layer = WallImages(2, TAPS_PER_METRE)
    trp = np.array([[1, 2, 3], [-5e3, 8e3, 7], [1e5, 1e5, 2]], "f")
    for _ in range(2):
        images = np.asarray(layer(trp))
        assert np.linalg.norm(images - trp[:, None], axis=-1).min() > 5e4
        np.testing.assert_array_equal(images[..., 2], [[3, 3], [7, 7], [2, 2]])
        layer = adapted()
        assert np.linalg.norm(layer(trp)[0, 0]) < 100
        layer.adapt(np.zeros((30, 100)), np.ones((30, 3)), np.zeros((30, 3)))


def test_of_a_site_far_from_the_origin():
    """Walls of before, a kilometre off, explain nothing there."""
    layer, shift = adapted(), np.array([8e4, -6e4, 0], "f")
    before = np.asarray(layer(np.array([10, 20, 9], "f")))[0]
    cir, trp, ue = heard([1] * 300)
    layer.adapt_if_better(power_of(cir), trp + shift, ue + shift)
    image, other = np.asarray(layer(np.array([10, 20, 9], "f") + shift)) - shift
    np.testing.assert_allclose(image, before, atol=0.1)
    assert np.linalg.norm(other) > 5e4


def test_adapt_finds_the_wall_and_forgets_those_before():
    image, other = np.asarray(adapted()(np.array([10, 20, 9], "f")))
    np.testing.assert_allclose(image, [2 * WALL_X - 10, 20, 9], atol=0.5)
    assert np.linalg.norm(other) > 5e4


def test_adapt_to_ragged_and_to_padded_inputs():
    """UEs are of samples, TRPs of links; only the first batches are read."""
    ragged, padded, flat = [], [], []
    for seed in range(8):
        cir, trp, ue = heard(LENGTHS, seed)
        target = {"position": ue}
        inputs = {"cir": cir, "trp_position": trp}
        rows = tf.RaggedTensor.from_row_lengths
        ragged.append(({n: rows(x, LENGTHS) for n, x in inputs.items()}, target))
        mask = np.arange(7) < np.array(LENGTHS)[:, None]
        dense = {n: np.full((5, 7, *x.shape[1:]), 3.0, "f") for n, x in inputs.items()}
        for name, values in inputs.items():
            dense[name][mask] = values
        padded.append(({**dense, "trp_mask": mask}, target))
        flat.append((power_of(cir), trp, np.repeat(ue, LENGTHS, axis=0)))
    expected = WallImages(2, TAPS_PER_METRE)
    expected.adapt(*(np.concatenate(parts) for parts in zip(*flat, strict=True)))
    np.testing.assert_allclose(expected.isometry[0], MIRROR, atol=0.7)
    for form in (ragged, padded):
        layer = WallImages(2, TAPS_PER_METRE)
        layer.adapt(*received_links([*form, "never read"]))
        np.testing.assert_allclose(layer.isometry, expected.isometry, atol=1e-3)


def test_walls_stay_known_but_where_others_explain_more():
    def data(wall_x, count):
        cir, trp, ue = heard([1] * count, seed=3, wall_x=wall_x)
        inputs = {"cir": cir[:, None], "trp_position": trp[:, None]}
        return [(inputs, {"position": ue})]

    layer = adapted()
    known = np.asarray(layer.isometry)
    for same in (data(WALL_X, 60), data(70.0, 5)):  # no better, and too few to tell
        learn_other_walls(layer, same)
        np.testing.assert_array_equal(layer.isometry, known)
    for before in (layer, WallImages(2, TAPS_PER_METRE)):
        learn_other_walls(before, data(70.0, 200))
        image, other = np.asarray(before(np.array([10, 20, 9], "f")))
        np.testing.assert_allclose(image, [140 - 10, 20, 9], atol=0.7)
        assert np.linalg.norm(other) > 5e4
    learn_other_walls(None, None)  # nothing to learn


@pytest.mark.parametrize(
    ("dataset", "message"),
    [([], "num_batches=0"), ([({}, None)], "'position'. Received: targets='NoneType'")],
)
def test_what_nothing_can_be_learned_from_is_refused(dataset, message):
    with pytest.raises(UserError, match=message):
        received_links(dataset)


def test_save_and_load_keeps_what_was_found(tmp_path):
    layer = adapted()
    inputs = keras.Input((None, 3))
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    assert loaded.get_config() == layer.get_config()
    np.testing.assert_array_equal(loaded.isometry, layer.isometry)
    assert not loaded.trainable_weights and len(loaded.weights) == 1


@pytest.mark.parametrize(
    "bad", [{"num_images": 0}, {"num_images": 1.5}, {"taps_per_metre": 0.0}]
)
def test_bad_arguments_are_named(bad):
    options = {"num_images": 2, "taps_per_metre": 0.5, **bad}
    with pytest.raises(UserError, match=f"Received: {next(iter(bad))}="):
        WallImages(**options)
