"""Samples turned and mirrored: what stays as it was, and what moves with them."""

import numpy as np
import pytest
import tensorflow as tf
import tracks_training

from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data import epochs
from sionna_loc.data.augmentation import Turning, draw_chance

SQUARE = [[10.0, -50.0, 0.0], [30.0, -30.0, 3.0]]
OBLONG = [[0.0, 0.0, 0.0], [120.0, 60.0, 10.0]]
LENGTHS = [3, 1, 2]


def batch_of(region, num_samples, seed=0):
    """Samples with lines of sight only, whose angles are those of the positions."""
    generator = np.random.default_rng(seed)
    lower, upper = np.asarray(region, np.float32)
    lengths = (LENGTHS * num_samples)[:num_samples]
    ue = generator.uniform(lower, upper, (num_samples, 3)).astype("f")
    trp = generator.uniform(lower - 20, upper + 20, (sum(lengths), 3)).astype("f")
    way = np.repeat(ue, lengths, axis=0) - trp
    values = {
        "trp_position": trp,
        "path_aod": np.stack([angles(way), np.zeros_like(way[:, :2])], 1),
        "path_aoa": np.stack([angles(-way), np.zeros_like(way[:, :2])], 1),
        "num_paths": np.ones(len(trp), np.int32),
    }
    ragged = {
        name: tf.RaggedTensor.from_row_lengths(value, lengths)
        for name, value in values.items()
    }
    return {**ragged, "ue_position": tf.constant(ue)}


def angles(way):
    """(zenith, azimuth) of directions [n, 3]."""
    across = np.hypot(way[:, 0], way[:, 1])
    azimuth = np.arctan2(way[:, 1], way[:, 0])
    return np.stack([np.arctan2(across, way[:, 2]), azimuth], -1).astype("f")


def ways(batch):
    """From each TRP to the UE of its sample, [num_tokens, 3]."""
    sample = batch["trp_position"].value_rowids().numpy()
    return batch["ue_position"].numpy()[sample] - batch["trp_position"].flat_values


def chance(num_samples, seed=3):
    return draw_chance(tf.constant([seed, 5], tf.int64), num_samples)


@pytest.mark.parametrize("name", ["rotate", "symmetries", "tilt"])
@pytest.mark.parametrize("region", [SQUARE, OBLONG])
def test_distances_stay_and_ues_in_the_region(name, region):
    batch = batch_of(region, 400)
    turned = Turning(name, region)(batch, chance(400))
    before, after = np.asarray(ways(batch)), np.asarray(ways(turned))

    assert np.abs(after - before).max() > 10
    np.testing.assert_allclose(
        np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1), rtol=1e-5
    )
    for field in ("trp_position", "ue_position"):
        old, new = (x[field] for x in (batch, turned))
        old, new = (getattr(x, "flat_values", x).numpy() for x in (old, new))
        if name != "tilt":
            np.testing.assert_array_equal(old[:, 2], new[:, 2])
    ue = turned["ue_position"].numpy()
    assert (ue >= np.array(region[0]) - 1e-5).all()
    assert (ue <= np.array(region[1]) + 1e-5).all()


@pytest.mark.parametrize("name", ["rotate", "symmetries", "tilt"])
def test_angles_turn_with_the_positions_and_what_is_no_path_stays_0(name):
    batch = batch_of(SQUARE, 60)
    turned = Turning(name, SQUARE)(batch, chance(60))
    way = np.asarray(ways(turned))
    for field, sign in (("path_aod", 1), ("path_aoa", -1)):
        found = turned[field].flat_values.numpy()
        difference = found[:, 0] - angles(sign * way)
        difference[:, 1] = (difference[:, 1] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(difference, 0, atol=1e-4)
        assert np.abs(found).max() <= np.pi + 1e-6
        np.testing.assert_array_equal(found[:, 1], 0)


@pytest.mark.parametrize(("region", "count"), [(SQUARE, 8), (OBLONG, 4)])
def test_all_symmetries_of_the_region_are_taken_equally_often(region, count):
    place = np.add(np.mean(region, axis=0), [7.0, 3.0, 0.0])
    batch = {
        **batch_of(region, 1600),
        "ue_position": tf.constant([place] * 1600, tf.float32),
    }
    turned = Turning("symmetries", region)(batch, chance(1600))["ue_position"].numpy()
    found, counts = np.unique(turned.round(3), axis=0, return_counts=True)

    assert len(found) == count
    assert counts.min() > 0.7 * 1600 / count
    offsets = np.abs(found - np.mean(region, axis=0))[:, :2]
    assert sorted(set(map(tuple, offsets.round(3).tolist()))) in (
        [(3.0, 7.0), (7.0, 3.0)] if count == 8 else [(7.0, 3.0)],
    )


def test_a_symmetry_keeps_the_edge_of_the_region_to_the_last_bit():
    corners = tf.constant([[30.0, -30.0, 1.5], [10.0, -30.0, 1.5]] * 50)
    batch = {**batch_of(SQUARE, 100), "ue_position": corners}
    turned = Turning("symmetries", SQUARE)(batch, chance(100))["ue_position"].numpy()

    assert set(turned[:, 0]) == {10.0, 30.0} and set(turned[:, 1]) == {-50.0, -30.0}


def test_rotate_takes_all_angles_where_it_can_and_symmetries_at_a_corner():
    near = tf.constant([[25.0, -40.0, 1.5]] * 600)
    turning = Turning("rotate", SQUARE)
    batch = {**batch_of(SQUARE, 600), "ue_position": near}
    x, y = (turning(batch, chance(600))["ue_position"].numpy()[:, :2] - [20, -40]).T
    sectors, counts = np.unique(np.arctan2(y, x) // (np.pi / 6), return_counts=True)
    corner = {**batch, "ue_position": tf.constant([[30.0, -30.0, 1.5]] * 600)}
    at_corner = turning(corner, chance(600))["ue_position"].numpy()

    assert len(sectors) == 12 and counts.min() > 25  # of 600 / 12
    np.testing.assert_allclose(np.hypot(x, y), 5, rtol=1e-5)
    np.testing.assert_allclose(np.abs(at_corner[:, :2] - [20, -40]), 10, atol=1e-4)


def test_a_tilted_place_is_a_slope_where_the_ue_stays_in_the_region():
    """Level ground becomes a plane through the middle, up to 5 % steep."""
    high = [[10.0, -50.0, -1.0], [30.0, -30.0, 4.0]]
    batch = batch_of(high, 900)
    near = tf.constant([[25.0, -40.0, 1.5]] * 900)
    trp = batch["trp_position"].with_flat_values(
        np.random.default_rng(1).uniform([0, -60, 1.5], [40, -20, 1.5], (1800, 3))
        .astype("f")
    )  # fmt: skip
    level = {**batch, "ue_position": near, "trp_position": trp}
    tilted = Turning("tilt", high)(level, chance(900))
    slopes = []
    for points, ue in zip(tilted["trp_position"], tilted["ue_position"], strict=True):
        away = np.concatenate([points, [ue]]) - [20.0, -40.0, 1.5]
        if len(points) == 3:
            slope, rest, *_ = np.linalg.lstsq(away[:, :2], away[:, 2], rcond=None)
            assert float(np.sum(rest)) < 1e-6
            slopes.append(slope)
    slopes = np.array(slopes)
    steepness = np.hypot(*slopes.T)
    assert steepness.max() < 0.0501
    assert np.mean(steepness > 0.05 / 2**0.5) == pytest.approx(0.5, abs=0.12)
    np.testing.assert_allclose(slopes.mean(axis=0), 0, atol=0.006)  # all directions
    # Too low a region for some: those are turned and no more.
    low = [[10.0, -50.0, 1.4], [30.0, -30.0, 1.6]]
    turned, tilted = (
        Turning(name, low)(level, chance(900)) for name in ("rotate", "tilt")
    )
    moved = np.abs(turned["ue_position"] - tilted["ue_position"]).max(axis=1)
    moved_trp = np.abs(turned["trp_position"] - tilted["trp_position"]).to_tensor()
    stays = moved < 1e-5
    assert 0.2 < stays.mean() < 0.8
    assert np.asarray(moved_trp)[stays].max() < 1e-4
    assert np.asarray(moved_trp)[~stays].max(axis=(1, 2)).min() > 1e-3


def test_all_samples_of_a_window_turn_alike():
    batch = batch_of(SQUARE, 4)
    flat = np.array([[12, -35, 20], [28, -48, 21], [15, -44, 22]] * 4, "f")
    lengths = [[2, 1, 3, 2], [3, 0, 1, 1, 1, 2, 2, 2]]
    trp = tf.RaggedTensor.from_nested_row_lengths(flat, lengths)
    num_paths = trp.with_flat_values(np.ones(12, np.int32))
    windows = {
        "trp_position": trp, "num_paths": num_paths, "ue_position": batch["ue_position"]
    }  # fmt: skip
    turned = Turning("rotate", SQUARE)(windows, chance(4))

    assert turned["trp_position"].ragged_rank == 2
    np.testing.assert_array_equal(
        turned["trp_position"].bounding_shape(), trp.bounding_shape()
    )
    for before, after, ue, new in zip(
        trp, turned["trp_position"], batch["ue_position"], turned["ue_position"],
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(
            np.linalg.norm(after.flat_values - new, axis=1),
            np.linalg.norm(before.flat_values - ue, axis=1),
            rtol=1e-4,
        )


def read(batches, count):
    """Fields of the first samples, one entry a sample."""
    found = {}
    for batch in batches:
        for name, values in batch.items():
            found.setdefault(name, []).extend(row.numpy() for row in values)
        if len(found["ue_position"]) >= count:
            return {name: rows[:count] for name, rows in found.items()}


@pytest.mark.parametrize("name", ["rotate", "symmetries", "tilt"])
def test_the_stream_is_the_same_samples_turned(small_paris, name):
    plain = read(small_paris.batches(16, seed=2), 48)
    turned = read(small_paris.batches(16, seed=2, augment=name), 48)

    for field in ("path_gain", "path_delay", "num_paths", "los"):
        for one, other in zip(plain[field], turned[field], strict=True):
            np.testing.assert_array_equal(one, other)
    moved = np.abs(np.subtract(plain["ue_position"], turned["ue_position"])).max(axis=1)
    assert (moved > 1).mean() > 0.7
    for ue, trp, los, delay in zip(
        *(turned[f] for f in ("ue_position", "trp_position", "los", "path_delay")),
        strict=True,
    ):
        distance = np.linalg.norm(trp - ue, axis=1)
        first = np.where(delay > 0, delay, np.inf).min(axis=1) * SPEED_OF_LIGHT
        np.testing.assert_allclose(first[los], distance[los], rtol=1e-4)
        assert (first > 0.999 * distance).all()


def test_turned_samples_do_not_depend_on_where_reading_starts_or_what_is_read(
    small_paris,
):
    options = {"seed": 3, "augment": "rotate", "fields": ("trp_position",)}
    whole = small_paris.batches(10, **{**options, "fields": None})
    rest = small_paris.batches(5, start=40, **options)
    whole = [row.numpy() for batch in whole.take(5) for row in batch["trp_position"]]
    rest = [row.numpy() for batch in rest.take(2) for row in batch["trp_position"]]
    assert list(small_paris.batches(5, **options).element_spec) == ["trp_position"]

    for one, other in zip(whole[40:], rest, strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_pass_over_a_fixed_set_turns_anew(small_paris):
    options = {"fields": ("trp_position", "ue_position")}
    plain = read(epochs.batches(small_paris, 12, 6, **options), 24)
    turned = read(epochs.batches(small_paris, 12, 6, augment="rotate", **options), 24)
    again = read(epochs.batches(small_paris, 12, 8, augment="rotate", **options), 24)

    np.testing.assert_array_equal(turned["ue_position"], again["ue_position"])
    images = {}
    for before, after, trp, new in zip(
        *(x[f] for f in ("ue_position", "trp_position") for x in (plain, turned)),
        strict=True,
    ):
        images.setdefault(before.tobytes(), set()).add(after.tobytes())
        np.testing.assert_allclose(
            np.linalg.norm(new - after, axis=1),
            np.linalg.norm(trp - before, axis=1),
            rtol=1e-4,
        )
    assert max(map(len, images.values())) > 1


def test_windows_of_tracks_turn_as_a_whole():
    """TRPs stay put along a window, and its end is seen from them where the UE is."""
    scenario = tracks_training.Drives()
    batches = scenario.batches(8, window=3, keep_silent=True, augment="rotate")
    batch = next(iter(batches))
    seen = set()
    for trps, directions, counts, ue in zip(
        *(batch[n] for n in ("trp_position", "path_aod", "num_paths", "ue_position")),
        strict=True,
    ):
        trps = trps.to_tensor().numpy()  # [window, num_trps, 3]
        np.testing.assert_array_equal(trps, np.broadcast_to(trps[0], trps.shape))
        heard = counts[-1].numpy() > 0
        way = angles(ue.numpy() - trps[-1])[heard]
        found = directions[-1].numpy()[heard, 0]
        np.testing.assert_allclose(found, way, atol=1e-3)
        seen.add(trps[0].tobytes())
    assert len(seen) > 4


def test_an_unknown_augmentation_is_refused(small_paris):
    with pytest.raises(UserError, match="Did you mean 'rotate'"):
        small_paris.batches(4, augment="rotat")
