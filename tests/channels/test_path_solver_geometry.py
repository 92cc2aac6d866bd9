"""Paths against closed forms: mirror images, edges, Fresnel's coefficients."""

import sionna_loc.channels  # noqa: F401 (loads LLVM, before Dr.Jit is imported)

# isort: split
import itertools

import numpy as np
import pytest
import sionna.rt as rt
from panel_scenes import FREQUENCY, isotropic, mesh_scene, panel, sphere

from sionna_loc.channels.chain_tree import Search
from sionna_loc.channels.path_solver import MultiUserPathSolver
from sionna_loc.constants import SPEED_OF_LIGHT

pytestmark = pytest.mark.on_tracer_thread

WAVELENGTH = SPEED_OF_LIGHT / FREQUENCY
CORNER = [
    panel((0, 0, -50), (100, 0, 0), (0, 0, 100)),
    panel((0, 0, -50), (0, 100, 0), (0, 0, 100)),
]


def positions(*rows):
    return np.array(rows, np.float32)


def direction(angles):
    zenith, azimuth = np.moveaxis(angles, -1, 0)
    return np.stack(
        [
            np.sin(zenith) * np.cos(azimuth),
            np.sin(zenith) * np.sin(azimuth),
            np.cos(zenith),
        ],
        -1,
    )


def unit(vector):
    return np.asarray(vector) / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def solver():
    return MultiUserPathSolver()


def test_corner_reflector_mirrors_the_source_three_times(solver):
    source, target = np.array([3.0, 5.0, 2.0]), np.array([7.0, 4.0, -6.0])
    paths = solver.trace(
        mesh_scene(*CORNER), positions(source), positions(target), max_depth=2
    )
    signs = [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, 1)]
    images = {length(source * s, target): (np.array(s), source * s) for s in signs}
    order = np.argsort(paths.delay)
    assert len(order) == 4
    for index, expected in zip(order, sorted(images), strict=True):
        sign, image = images[expected]
        assert paths.delay[index] * SPEED_OF_LIGHT == pytest.approx(expected, rel=1e-6)
        assert paths.num_interactions[index] == np.count_nonzero(sign < 0)
        arrival = direction(paths.aoa[index])
        np.testing.assert_allclose(arrival, unit(image - target), atol=1e-5)
        # Unfolded at the source: the mirrored target is what it sees.
        departure = direction(paths.aod[index])
        np.testing.assert_allclose(departure, unit(target * sign - source), atol=1e-5)


def length(first, second):
    return float(np.linalg.norm(np.asarray(first) - second))


def box_images(low, high, source, max_order):
    """Images of a source in a box, and how many walls each one has met."""
    size = high - low
    for steps in itertools.product(range(-max_order, max_order + 1), repeat=3):
        steps = np.array(steps)
        order = np.abs(steps).sum()
        if order <= max_order:
            inside = np.where(steps % 2 == 0, source - low, high - source)
            yield order, low + steps * size + inside


def test_box_has_every_image_of_the_image_method(solver):
    scene = rt.load_scene(rt.scene.box)
    scene.frequency = FREQUENCY
    scene.tx_array = scene.rx_array = isotropic()
    bounds = scene.mi_scene.bbox()
    low, high = np.array(bounds.min), np.array(bounds.max)
    source = low + (high - low) * (0.23, 0.41, 0.37)
    targets = low + (high - low) * np.array([(0.71, 0.12, 0.55), (0.31, 0.83, 0.19)])
    paths = solver.trace(
        scene, positions(source), positions(*targets), samples_per_src=200_000
    )
    for number, target in enumerate(targets):
        images = list(box_images(low, high, source, 3))
        assert len(images) == 63
        expected = sorted((length(image, target), order) for order, image in images)
        here = paths.target == number
        order = np.argsort(paths.delay[here])
        found = paths.delay[here][order] * SPEED_OF_LIGHT
        np.testing.assert_allclose(found, [one[0] for one in expected], rtol=2e-6)
        np.testing.assert_array_equal(
            paths.num_interactions[here][order], [one[1] for one in expected]
        )


@pytest.mark.parametrize(("beyond", "count"), [(-0.02, 1), (0.02, 0)])
def test_wall_reflects_up_to_its_edge(solver, beyond, count):
    # The wall y = 0 ends at x = 1; source and target see x = 1 + `beyond` in it.
    scene = mesh_scene(panel((-9, 0, -5), (10, 0, 0), (0, 0, 10)))
    source = positions((1 + beyond - 4, 4, 0))
    target = positions((1 + beyond + 2, 2, 0))
    paths = solver.trace(scene, source, target, los=False, max_depth=1)
    assert len(paths.delay) == count


def test_opaque_panel_blocks_the_line_of_sight(solver):
    scene = mesh_scene(panel((-1, 1, -1), (2, 0, 0), (0, 0, 2)))
    source, targets = positions((0, 0, 0)), positions((0, 2, 0), (5, 2, 0))
    paths = solver.trace(scene, source, targets)
    assert paths.target.tolist() == [1]
    assert paths.delay[0] * SPEED_OF_LIGHT == pytest.approx(np.sqrt(29), rel=1e-6)


def fresnel(permittivity, cos):
    """Reflection coefficients (TE, TM) of a half-space."""
    root = np.sqrt(permittivity - (1 - cos**2))
    te = (cos - root) / (cos + root)
    return te, (permittivity * cos - root) / (permittivity * cos + root)


@pytest.fixture(scope="module")
def thick():
    """Permittivity of a lossy material, and of which 10 m swallow all."""
    permittivity, conductivity = 4.0, 1.0
    loss = conductivity / (2 * np.pi * FREQUENCY * 8.8541878e-12)
    return permittivity - 1j * loss, dict(
        permittivity=permittivity, conductivity=conductivity, thickness=10.0
    )


def test_wall_reflects_vertical_polarisation_as_te_with_its_phase(solver, thick):
    permittivity, material = thick
    scene = mesh_scene(panel((-50, 0, -50), (100, 0, 0), (0, 0, 100)), **material)
    source, target = positions((0, 3, 0)), positions((8, 3, 0))
    paths = solver.trace(scene, source, target, los=False, max_depth=1)
    te, tm = fresnel(permittivity, cos=0.6)
    expected = WAVELENGTH / (4 * np.pi * 10) * te
    expected *= np.exp(-2j * np.pi * 10 / WAVELENGTH)
    assert abs(abs(te) - abs(tm)) > 0.1
    assert abs(paths.gain[0] - expected) < 2e-4 * abs(expected)


def test_ground_reflects_vertical_polarisation_as_tm(solver, thick):
    permittivity, material = thick
    scene = mesh_scene(panel((-50, -50, 0), (100, 0, 0), (0, 100, 0)), **material)
    source, target = positions((0, 0, 3)), positions((0, 8, 3))
    paths = solver.trace(scene, source, target, los=False, max_depth=1)
    _, tm = fresnel(permittivity, cos=0.6)
    expected = WAVELENGTH / (4 * np.pi * 10) * abs(tm)
    assert abs(paths.gain[0]) == pytest.approx(expected, rel=2e-4)


def test_line_of_sight_has_friis_gain_and_carrier_phase(solver):
    source, target = positions((0, 0, 0)), positions((3, 4, 12))
    paths = solver.trace(mesh_scene(), source, target)
    expected = WAVELENGTH / (4 * np.pi * 13) * np.exp(-2j * np.pi * 13 / WAVELENGTH)
    assert abs(paths.gain[0] - expected) < 1e-4 * abs(expected)
    np.testing.assert_allclose(paths.aod[0], [np.arccos(12 / 13), np.arctan2(4, 3)])
    np.testing.assert_allclose(
        direction(paths.aoa[0]), -direction(paths.aod[0]), atol=1e-6
    )


def test_wall_is_passed_straight_on(solver):
    scene = mesh_scene(panel((-5, 1, -5), (10, 0, 0), (0, 0, 10)), thickness=0.05)
    source, target = positions((0, 0, 0)), positions((1, 2, 0))
    assert len(solver.trace(scene, source, target).delay) == 0
    paths = solver.trace(scene, source, target, refraction=True)
    assert paths.num_interactions.tolist() == [1]
    assert paths.delay[0] * SPEED_OF_LIGHT == pytest.approx(np.sqrt(5), rel=1e-6)
    assert 0 < abs(paths.gain[0]) < 0.99 * WAVELENGTH / (4 * np.pi * np.sqrt(5))


def test_swapping_ends_changes_neither_delays_nor_gains(solver):
    scene = rt.load_scene(rt.scene.box)
    scene.frequency = FREQUENCY
    scene.tx_array = scene.rx_array = isotropic()
    first = positions((1, 0.5, 1.2), (-2, 1.5, 3))
    second = positions((2.2, -1, 1.5), (-1.3, -0.4, 0.8), (0.3, 2, 2.6))
    there = solver.trace(scene, first, second, max_depth=2, samples_per_src=100_000)
    back = solver.trace(scene, second, first, max_depth=2, samples_per_src=100_000)
    assert len(there.delay) == len(back.delay) == 6 * 25
    for source, target in itertools.product(range(2), range(3)):
        one = (there.source == source) & (there.target == target)
        two = (back.source == target) & (back.target == source)
        left, right = np.argsort(there.delay[one]), np.argsort(back.delay[two])
        np.testing.assert_allclose(
            there.delay[one][left], back.delay[two][right], rtol=1e-6
        )
        gains = there.gain[one][left], back.gain[two][right]
        np.testing.assert_allclose(*np.abs(gains), rtol=1e-3)
        np.testing.assert_allclose(
            there.aod[one][left], back.aoa[two][right], atol=1e-4
        )


def test_wall_of_two_planes_within_rounding_reflects_once(solver):
    vertices, faces = panel((-5, 0, -5), (10, 0, 0), (0, 0, 10))
    vertices[3, 1] += 2e-4
    scene = mesh_scene((vertices, faces))
    source, target = positions((-1, 4, 0.5)), positions((1.4, 4, -0.3))
    paths = solver.trace(scene, source, target, los=False, max_depth=1)
    expected = length(source[0] * (1, -1, 1), target[0])
    assert paths.delay * SPEED_OF_LIGHT == pytest.approx([expected], rel=1e-4)


CITIES = ["etoile", "munich", "florence"]


@pytest.mark.parametrize(
    "name",
    ["box", "simple_street_canyon"]
    + [pytest.param(city, marks=pytest.mark.slow) for city in CITIES],
)
def test_paths_of_stock_are_found(solver, name):
    scene = rt.load_scene(getattr(rt.scene, name))
    scene.frequency = FREQUENCY
    scene.tx_array = scene.rx_array = isotropic()
    half, height = ((2, 2), 4) if name == "box" else ((40, 4), 12)
    if name in CITIES:
        half, height = (150, 150), 35
    random = np.random.default_rng(3)
    sources = random.uniform(
        (*np.negative(half), height * 0.6), (*half, height), (3, 3)
    )
    targets = random.uniform((*np.negative(half), 1.4), (*half, 1.6), (24, 3))
    for number, position in enumerate(sources.tolist()):
        scene.add(rt.Transmitter(f"tx-{number}", position=position))
    for number, position in enumerate(targets.tolist()):
        scene.add(rt.Receiver(f"rx-{number}", position=position))
    stock = rt.PathSolver()(scene, samples_per_src=10_000, refraction=False)
    ours = solver.trace(scene, sources, targets)
    assert_contains(ours, stock)


def assert_contains(ours, stock):
    """Stock's paths: 99.5 % are among ours, of the power 99.9 %, with equal gains."""
    gain, delay = stock.cir(normalize_delays=False, out_type="numpy")
    errors, powers = [], []
    for target, source, place in np.argwhere(stock.valid.numpy()):
        here = (ours.source == source) & (ours.target == target)
        arrival = [one.numpy()[target, source, place] for one in angles_of(stock)]
        turned = direction(ours.aoa[here]) @ direction(np.array(arrival))
        close = np.abs(ours.delay[here] - delay[target, source, place]) < 1e-11
        close &= turned > 1 - 2e-6
        power = np.abs(gain[target, 0, source, 0, place, 0]) ** 2
        decibels = 10 * np.log10(np.abs(ours.gain[here][close]) ** 2 / power)
        powers.append(power)
        errors.append(np.abs(decibels).min(initial=np.inf))
    errors, powers = np.array(errors), np.array(powers)
    found = np.isfinite(errors)
    assert len(found) > 15
    assert found.mean() >= 0.995
    assert powers[found].sum() >= 0.999 * powers.sum()
    assert (errors[found] < 0.1).mean() >= 0.99


def angles_of(stock):
    return stock.theta_r, stock.phi_r


def test_scene_has_no_path_twice(solver):
    scene = rt.load_scene(rt.scene.etoile)
    scene.tx_array = scene.rx_array = isotropic()
    random = np.random.default_rng(0)
    sources = random.uniform((-150, -150, 28), (150, 150, 35), (2, 3))
    targets = random.uniform((-150, -150, 1.5), (150, 150, 1.5), (40, 3))
    groups = solver._finder.find(
        scene.mi_scene,
        sources.astype(np.float32),
        targets.astype(np.float32),
        Search(samples_per_src=20_000, max_depth=3),
        los=True,
    )
    parts = [*itertools.chain(*groups)]
    for part in parts:
        keys = np.column_stack(
            [part.source, part.target, part.shape, part.primitive]
        ).astype(np.int64)
        assert len(np.unique(keys, axis=0)) == len(keys)
    assert sum(len(part.source) for part in parts) > 100


def test_fine_sphere_stays_a_sphere(solver):
    scene = mesh_scene(sphere(radius=5.0, num_rings=60))
    facets, _ = solver._finder._scene_facets(scene.mi_scene)
    assert facets.num_facets > 7000
    source, target = positions((12, 0.3, 0.1)), positions((0.2, 11, -0.4))
    paths = solver.trace(
        scene, source, target, los=False, max_depth=1, samples_per_src=100_000
    )
    # The specular point of the smooth sphere lies near the bisecting direction.
    middle = 5 * unit((1, 1, 0))
    bound = length(source[0], middle) + length(target[0], middle)
    assert len(paths.delay) >= 1
    np.testing.assert_allclose(paths.delay * SPEED_OF_LIGHT, bound, rtol=0.01)
