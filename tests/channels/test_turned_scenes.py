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


CASES = [("rotate", (0, 1), 1), ("rotate", (0, 4), -1), ("tilt", (0, 1), 1)]
"""One only turns, the other mirrors too, and the last makes a slope."""


def trace(turned=lambda points: points):
    """Paths of all links, everything turned."""
    scene = mesh_scene(*((turned(vertices), faces) for vertices, faces in WALLS))
    ends = (turned(points).astype("f") for points in (TRP, UE))
    flat = MultiUserPathSolver().trace(scene, *ends, max_depth=2, samples_per_src=4000)
    return group_by_link(flat, num_trps=len(TRP), num_ues=len(UE), num_paths=12)


@pytest.mark.parametrize(("name", "seed", "determinant"), CASES)
def test_paths_of_a_turned_scene_are_the_turned_paths(name, seed, determinant):
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
    turned = Turning(name, REGION)(batch, chance)
    before = np.concatenate([UE, TRP])
    before = np.concatenate([before, np.ones((len(before), 1))], axis=1)
    after = np.concatenate([turned["ue_position"], turned["trp_position"][0]])
    matrix = np.linalg.lstsq(before, after, rcond=None)[0]  # [4, 3], affine

    expected = trace(lambda points: points @ matrix[:3] + matrix[3])
    assert np.abs(matrix[:2, :2]).min() > 0.05  # no mere symmetry
    assert np.linalg.det(matrix[:3]) == pytest.approx(determinant, abs=1e-4)
    is_level = np.abs(matrix[:2, 2]).max() < 1e-4
    assert is_level == (name == "rotate")
    np.testing.assert_array_equal(expected["num_paths"], plain["num_paths"])
    assert plain["num_paths"].min() >= 3
    np.testing.assert_allclose(expected["path_delay"], plain["path_delay"], rtol=1e-5)
    power = [np.abs(one["path_gain"]) for one in (expected, plain)]
    # Traced antennas stay upright.
    rtol, atol = (2e-3, 1e-9) if is_level else (0.02, 0.01 * power[1].max())
    np.testing.assert_allclose(*power, rtol=rtol, atol=atol)
    for field in ("path_aoa", "path_aod"):
        found = turned[field].flat_values.numpy()
        away = found - expected[field].reshape(found.shape)
        away[..., 1] = (away[..., 1] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(away, 0, atol=2e-3)
