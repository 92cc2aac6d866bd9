"""Augmentation does to samples what turning and mirroring the scene does to paths."""

import sionna_loc.channels  # noqa: F401 (loads LLVM, before Dr.Jit is imported)

# isort: split
import numpy as np
import pytest
import tensorflow as tf
from panel_scenes import mesh_scene, panel

from sionna_loc.channels.path_solver import MultiUserPathSolver
from sionna_loc.channels.raytraced import group_by_link
from sionna_loc.data.augmentation import Turning, draw_chance

pytestmark = pytest.mark.on_tracer_thread

REGION = [[-20.0, -20.0, 0.0], [20.0, 20.0, 3.0]]
TRP = np.array([[-6.0, 3.0, 6.0], [9.0, -5.0, 8.0]], np.float32)
UE = np.array([[4.0, 1.0, 1.5], [-3.0, -7.0, 1.5], [1.0, 8.0, 1.5]], np.float32)
WALLS = (
    panel((-15, 12, 0), (28, 3, 0), (0, 0, 12)),
    panel((16, -14, 0), (-4, 25, 0), (0, 0, 9)),
    panel((-18, -18, 0), (36, 0, 0), (0, 36, 0)),
)


SEEDS = [((0, 1), 1), ((0, 4), -1)]
"""One only turns, the other mirrors too."""


def trace(turned=lambda points: points):
    """Paths of all links, everything turned."""
    scene = mesh_scene(*((turned(vertices), faces) for vertices, faces in WALLS))
    ends = (turned(points).astype("f") for points in (TRP, UE))
    flat = MultiUserPathSolver().trace(scene, *ends, max_depth=2, samples_per_src=4000)
    return group_by_link(flat, num_trps=len(TRP), num_ues=len(UE), num_paths=12)


@pytest.mark.parametrize(("seed", "determinant"), SEEDS)
def test_paths_of_a_turned_scene_are_the_turned_paths(seed, determinant):
    plain = trace()
    batch = {
        "trp_position": np.broadcast_to(TRP, (len(UE), *TRP.shape)),
        **{name: plain[name] for name in ("path_aoa", "path_aod", "num_paths")},
    }
    batch = {
        name: tf.RaggedTensor.from_tensor(values, ragged_rank=1)
        for name, values in batch.items()
    }
    batch["ue_position"] = tf.constant(UE)
    chance = tf.repeat(draw_chance(tf.constant(seed), 1), len(UE), axis=0)
    turned = Turning("rotate", REGION)(batch, chance)
    moved = turned["ue_position"].numpy()[:, :2]  # linear in UE: about the origin
    matrix = np.linalg.lstsq(UE[:, :2], moved, rcond=None)[0]

    expected = trace(
        lambda points: np.concatenate([points[:, :2] @ matrix, points[:, 2:]], 1)
    )
    assert np.abs(matrix).min() > 0.05  # no mere symmetry
    assert np.linalg.det(matrix) == pytest.approx(determinant, abs=1e-4)
    np.testing.assert_array_equal(expected["num_paths"], plain["num_paths"])
    assert plain["num_paths"].min() >= 3
    np.testing.assert_allclose(expected["path_delay"], plain["path_delay"], rtol=1e-5)
    power = [np.abs(one["path_gain"]) for one in (expected, plain)]
    np.testing.assert_allclose(*power, rtol=2e-3, atol=1e-9)
    for name in ("path_aoa", "path_aod"):
        found = turned[name].flat_values.numpy()
        away = found - expected[name].reshape(found.shape)
        away[..., 1] = (away[..., 1] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(away, 0, atol=2e-3)
