"""The judge of the path solver's benchmark, on paths half a millimetre from an edge."""

import sionna_loc.channels  # noqa: F401 (loads LLVM, before Dr.Jit is imported)

# isort: split
import benchmark_scripts
import numpy as np
import pytest
import sionna.rt as rt
from panel_scenes import mesh_scene, panel

pytestmark = pytest.mark.on_tracer_thread


@pytest.fixture(scope="module")
def exact_paths():
    return benchmark_scripts.load("exact_paths")


def solve(scene, source, target):
    """Return Sionna's paths of up to one reflection."""
    scene.add(rt.Transmitter("tx", position=source))
    scene.add(rt.Receiver("rx", position=target))
    return rt.PathSolver()(scene, max_depth=1, refraction=False)


@pytest.mark.parametrize(("shift", "count"), [(-5e-4, 1), (5e-4, 0)])
def test_a_reflection_ends_with_its_wall(exact_paths, shift, count):
    # The wall y = 0 ends at x = 1; the judged ends see x = 1 + `shift` in it.
    scene = mesh_scene(panel((-9, 0, -5), (10, 0, 0), (0, 0, 10)))
    paths = solve(scene, (-4, 4, 0), (1, 2, 0))
    kinds = paths.interactions.numpy()[0]
    at = np.argwhere(paths.valid.numpy() & (kinds != 0))
    assert len(at) == 1
    ends = np.array([[[shift - 3, 4, 0]], [[shift + 3, 2, 0]]])
    exists, length, directions = exact_paths.ExactScene(scene).solve(paths, *ends, at)
    assert exists.tolist() == [bool(count)]
    np.testing.assert_allclose(length, np.hypot(6, 6), rtol=1e-12)
    expected = np.array([[1, -1, 0], [-1, -1, 0]]) / np.sqrt(2)
    np.testing.assert_allclose(directions[0], expected, atol=1e-12)


@pytest.mark.parametrize(("shift", "count"), [(5e-4, 1), (-5e-4, 0)])
def test_a_line_of_sight_passes_beside_a_panel(exact_paths, shift, count):
    # The panel ends at x = 1, where the judged line passes at x = 1 + `shift`.
    scene = mesh_scene(panel((-1, 1, -1), (2, 0, 0), (0, 0, 2)))
    paths = solve(scene, (0, 0, 0), (5, 2, 0))
    at = np.argwhere(paths.valid.numpy())
    assert len(at) == 1
    ends = np.array([[[0, 0, 0]], [[2 + 2 * shift, 2, 0]]])
    exists, _, _ = exact_paths.ExactScene(scene).solve(paths, *ends, at)
    assert exists.tolist() == [bool(count)]
