"""What callers rely on: bad input, caches, repeatability, Sionna's interface."""

import sionna_loc.channels  # noqa: F401 (loads LLVM, before Dr.Jit is imported)

# isort: split
import warnings

import drjit as dr
import mitsuba as mi
import numpy as np
import pytest
import sionna.rt as rt
from panel_scenes import isotropic, mesh_scene, panel, sphere

from sionna_loc.channels import chain_tree, path_finder
from sionna_loc.channels.flat_paths import FlatPaths
from sionna_loc.channels.path_solver import MultiUserPathSolver
from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.places.tracer_thread import TRACER_THREAD

pytestmark = pytest.mark.on_tracer_thread

SOURCES = np.array([(-20, 1, 8), (15, -2, 6)], np.float32)
TARGETS = np.array([(5, 2, 1.5), (-8, -3, 1.5), (22, 0, 1.5)], np.float32)
WALL = panel((-50, 0, -50), (100, 0, 0), (0, 0, 100))


def street(transmitters=SOURCES, receivers=TARGETS):
    scene = rt.load_scene(rt.scene.simple_street_canyon)
    scene.frequency = 10e9
    scene.tx_array = rt.PlanarArray(
        num_rows=1, num_cols=2, pattern="tr38901", polarization="VH"
    )
    scene.rx_array = rt.PlanarArray(
        num_rows=2, num_cols=1, pattern="dipole", polarization="V"
    )
    for number, position in enumerate(transmitters):
        scene.add(
            rt.Transmitter(
                f"tx-{number}",
                position=position.tolist(),
                orientation=[0.3 + number, 0.1, 0.2],
                velocity=[3.0, -1.0, 0.5],
            )
        )
    for number, position in enumerate(receivers):
        scene.add(
            rt.Receiver(
                f"rx-{number}",
                position=position.tolist(),
                orientation=[0.7 * number, 0.0, 0.1],
                velocity=[-9.0, 4.0, 0.0],
            )
        )
    return scene


def fields(paths: FlatPaths):
    return [
        paths.source,
        paths.target,
        paths.gain,
        paths.delay,
        paths.aod,
        paths.aoa,
        paths.num_interactions,
    ]


def assert_identical(first, second):
    for one, other in zip(fields(first), fields(second), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("synthetic_array", [True, False])
@pytest.mark.parametrize("refraction", [True, False])
def test_call_gives_the_channel_of_stock(synthetic_array, refraction):
    scene = street()
    options = dict(
        samples_per_src=100_000,
        max_num_paths_per_src=10_000,
        synthetic_array=synthetic_array,
        refraction=refraction,
    )
    ours = MultiUserPathSolver()(scene, **options)
    stock = rt.PathSolver()(scene, **options)
    frequencies = mi.Float(np.linspace(-20e6, 20e6, 5))
    responses = [
        one.cfr(
            frequencies,
            num_time_steps=3,
            sampling_frequency=1e3,
            normalize_delays=False,
            out_type="numpy",
        )
        for one in (ours, stock)
    ]
    assert responses[0].shape == responses[1].shape
    error = np.linalg.norm(responses[0] - responses[1]) / np.linalg.norm(responses[1])
    assert error < 2e-3
    for one, other in [(ours.theta_t, stock.theta_t), (ours.phi_r, stock.phi_r)]:
        np.testing.assert_allclose(
            np.sort(one.numpy()), np.sort(other.numpy()), atol=1e-3
        )


def test_trace_agrees_with_call():
    scene = street()
    scene.tx_array = scene.rx_array = isotropic()
    for device in [*scene.transmitters.values(), *scene.receivers.values()]:
        device.orientation = [0, 0, 0]
    solver = MultiUserPathSolver()
    flat = solver.trace(scene, SOURCES, TARGETS, refraction=True)
    paths = solver(scene, samples_per_src=10_000)
    gain, delay = paths.cir(normalize_delays=False, out_type="numpy")
    target, source, place = np.nonzero(paths.valid.numpy())
    assert len(flat.gain) == len(target) > 20
    order = np.lexsort((-abs(gain[target, 0, source, 0, place, 0]), target, source))
    target, source, place = target[order], source[order], place[order]
    np.testing.assert_array_equal(flat.source, source)
    np.testing.assert_array_equal(flat.target, target)
    np.testing.assert_allclose(flat.delay, delay[target, source, place], rtol=1e-6)
    expected = gain[target, 0, source, 0, place, 0]
    assert np.all(np.abs(flat.gain - expected) < 0.02 * np.abs(expected))
    zenith = paths.theta_r.numpy()[target, source, place]
    azimuth = paths.phi_t.numpy()[target, source, place]
    np.testing.assert_allclose(flat.aoa[:, 0], zenith, atol=1e-5)
    np.testing.assert_allclose(flat.aod[:, 1], azimuth, atol=1e-5)


def test_pattern_and_polarisation_of_the_first_element_count():
    scene = mesh_scene()
    source = np.array([(0, 0, 0)], np.float32)
    # Broadside, and 60 degrees off it, where the TR 38.901 element has lost power.
    targets = np.array([(10, 0, 0), (5, 5 * np.sqrt(3), 0)], np.float32)
    scene.tx_array = rt.PlanarArray(
        num_rows=2, num_cols=2, pattern="tr38901", polarization="V"
    )
    power = np.abs(MultiUserPathSolver().trace(scene, source, targets).gain) ** 2
    loss = 10 * np.log10(power[0] / power[1])
    assert loss == pytest.approx(12 * (60 / 65) ** 2, abs=0.01)
    scene.tx_array = isotropic("H")
    crossed = MultiUserPathSolver().trace(scene, source, targets[:1])
    assert np.all(np.abs(crossed.gain) < 1e-12)


def test_equal_calls_are_bit_identical_and_sorted():
    scene = street([], [])
    first = MultiUserPathSolver().trace(scene, SOURCES, TARGETS)
    second = MultiUserPathSolver().trace(scene, SOURCES, TARGETS, seed=7)
    assert_identical(first, second)
    link = first.source * len(TARGETS) + first.target
    assert np.all(np.diff(link) >= 0)
    falling = np.diff(np.abs(first.gain)) <= 0
    assert np.all(falling | (np.diff(link) > 0))


def test_order_of_positions_only_renames_them():
    scene = street([], [])
    solver = MultiUserPathSolver()
    paths = solver.trace(scene, SOURCES, TARGETS)
    turned = solver.trace(scene, SOURCES[::-1], TARGETS[[2, 0, 1]])
    source, target = 1 - turned.source, np.array([2, 0, 1])[turned.target]
    order = np.lexsort((turned.delay, target, source))
    expected = np.lexsort((paths.delay, paths.target, paths.source))
    np.testing.assert_array_equal(source[order], paths.source[expected])
    np.testing.assert_array_equal(target[order], paths.target[expected])
    np.testing.assert_array_equal(turned.delay[order], paths.delay[expected])


def test_small_chunks_change_nothing():
    scene = street([], [])
    targets = np.random.default_rng(0).uniform((-30, -4, 1), (30, 4, 2), (70, 3))
    whole = MultiUserPathSolver().trace(scene, SOURCES, targets, refraction=True)
    parts = MultiUserPathSolver(max_rays=2_000).trace(
        scene, SOURCES, targets, refraction=True
    )
    assert_identical(whole, parts)


def test_known_sources_are_not_shot_again(monkeypatch):
    shot = []
    original = path_finder.shoot_trees

    def spy(mi_scene, facets, positions, *rest):
        shot.append(positions.tolist())
        return original(mi_scene, facets, positions, *rest)

    monkeypatch.setattr(path_finder, "shoot_trees", spy)
    scene, solver = street([], []), MultiUserPathSolver()
    fresh = solver.trace(scene, SOURCES, TARGETS)
    cached = solver.trace(scene, SOURCES, TARGETS)
    assert_identical(fresh, cached)
    assert shot == [SOURCES.tolist()]
    moved = np.array([SOURCES[0], SOURCES[1] + 1])
    solver.trace(scene, moved, TARGETS)
    assert shot[1:] == [moved[1:].tolist()]
    solver.trace(scene, SOURCES, TARGETS, samples_per_src=5_000)
    assert shot[2:] == [SOURCES.tolist()]


def test_cache_of_chains_is_bounded():
    scene = street([], [])
    solver = MultiUserPathSolver(max_cached_chains=300)
    for shift in range(4):
        solver.trace(scene, SOURCES + shift, TARGETS)
        kept = sum(tree.num_nodes for tree in solver._finder._trees.values())
        assert kept <= 300
    none = MultiUserPathSolver(max_cached_chains=0)
    assert_identical(
        none.trace(scene, SOURCES, TARGETS), solver.trace(scene, SOURCES, TARGETS)
    )


def test_moved_geometry_is_noticed():
    scene, solver = mesh_scene(WALL), MultiUserPathSolver()
    source, target = np.array([(0, 3, 0.0)]), np.array([(8, 3, 0.0)])
    before = solver.trace(scene, source, target, los=False, max_depth=1)
    assert before.delay[0] * SPEED_OF_LIGHT == pytest.approx(10, rel=1e-6)
    wall = scene.objects["part-0"]
    wall.position = wall.position - mi.Point3f(0, 4.5, 0)
    after = solver.trace(scene, source, target, los=False, max_depth=1)
    assert after.delay[0] * SPEED_OF_LIGHT == pytest.approx(17, rel=1e-6)


def kernels_of(function, *arguments):
    """Return the hashes of the kernels that a call runs."""
    with dr.scoped_set_flag(dr.JitFlag.KernelHistory, True):
        dr.kernel_history()
        function(*arguments)
        history = dr.kernel_history([dr.KernelType.JIT])
    return {kernel["hash"] for kernel in history}


def test_new_positions_compile_no_kernels():
    scene = street([], [])
    solver, random = MultiUserPathSolver(), np.random.default_rng(1)
    # So many keys collide for sure; those of a trace do by chance.
    known = kernels_of(chain_tree._unique, dr.arange(mi.UInt64, 100_000))
    for turn in range(8):
        count = random.integers(20, 60)
        sources = random.uniform((-30, -4, 5), (30, 4, 9), (6, 3))
        targets = random.uniform((-30, -4, 1), (30, 4, 2), (count, 3))
        kernels = kernels_of(solver.trace, scene, sources, targets)
        assert len(kernels) > 20
        if turn < 3:
            known |= kernels
        else:
            assert kernels <= known


def test_diffuse_and_diffracted_paths_are_left_to_stock_with_one_warning():
    scene, solver = street(SOURCES[:1], TARGETS[:1]), MultiUserPathSolver()
    options = dict(samples_per_src=2_000, max_num_paths_per_src=2_000, max_depth=1)
    with pytest.warns(UserWarning, match="left to Sionna's PathSolver"):
        paths = solver(scene, diffraction=True, **options)
    expected = rt.PathSolver()(scene, diffraction=True, **options)
    assert paths.tau.shape == expected.tau.shape
    kinds = paths.interactions.numpy()
    assert (kinds == rt.constants.InteractionType.DIFFRACTION).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solver(scene, diffuse_reflection=True, **options)


def test_strongest_paths_are_kept_when_there_are_too_many():
    scene = street()
    everything = MultiUserPathSolver()(scene, samples_per_src=10_000)
    few = MultiUserPathSolver()(scene, samples_per_src=10_000, max_num_paths_per_src=5)
    for source in range(2):
        power = [path_power(paths)[:, source].ravel() for paths in (everything, few)]
        np.testing.assert_allclose(np.sort(power[1])[-5:], np.sort(power[0])[-5:])
        assert np.count_nonzero(power[1]) == 5


def path_power(paths):
    real, imaginary = (one.numpy() for one in paths.a)
    return (real**2 + imaginary**2)[:, 0, :, 0::2].sum(2)


@pytest.fixture(scope="module")
def two_walls():
    return TRACER_THREAD.call(make_two_walls)


def make_two_walls():
    scene = mesh_scene(WALL, panel((-50, -50, -3), (100, 0, 0), (0, 100, 0)))
    scene.add(rt.Transmitter("tx", position=[0.0, 3.0, 1.0]))
    scene.add(rt.Receiver("rx", position=[0.0, 0.0, 0.0]))
    return scene


@pytest.mark.parametrize("what", ["delay", "power"])
def test_gradients_match_finite_differences(two_walls, what):
    solver = MultiUserPathSolver(differentiable=True)

    def total(position):
        two_walls.get("rx").position = position
        paths = solver(two_walls, samples_per_src=10_000, refraction=False, max_depth=2)
        assert paths.tau.shape == (1, 1, 4)
        if what == "delay":
            return dr.sum(paths.tau.array) * 1e9
        return dr.sum(sum(dr.square(one.array) for one in paths.a)) * 1e6

    center = np.array((8.0, 4.0, 0.5))
    position = mi.Point3f(*map(float, center))
    dr.enable_grad(position)
    dr.backward(total(position))
    gradient = dr.grad(position).numpy().ravel()
    differences = [
        (total(center + step).numpy() - total(center - step).numpy())[0] / 0.04
        for step in np.eye(3) * 0.02
    ]
    assert np.abs(gradient).max() > 0.01
    tolerance = 0.01 * np.abs(differences).max()
    np.testing.assert_allclose(gradient, differences, atol=tolerance)


@pytest.mark.parametrize("empty", ["sources", "targets"])
def test_no_ends_give_no_paths(empty):
    none = np.empty((0, 3), np.float32)
    ends = (none, TARGETS) if empty == "sources" else (SOURCES, none)
    assert_identical(
        MultiUserPathSolver().trace(street([], []), *ends), FlatPaths.none()
    )


@pytest.mark.parametrize(
    ("transmitters", "receivers", "message"),
    [([], TARGETS, "no transmitters"), (SOURCES, [], "no receivers")],
)
def test_call_without_devices_is_an_error(transmitters, receivers, message):
    with pytest.raises(ValueError, match=message):
        MultiUserPathSolver()(street(transmitters, receivers))


def test_call_without_paths_gives_empty_paths():
    scene = mesh_scene(WALL)
    scene.add(rt.Transmitter("tx", position=[0, 3, 0]))
    scene.add(rt.Receiver("rx", position=[0, -3, 0]))
    paths = MultiUserPathSolver()(scene, samples_per_src=1_000, refraction=False)
    assert paths.tau.numpy().size == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_positions": [(np.nan, 0, 0)]}, "finite.*row 0.*Received"),
        ({"target_positions": [(0, 0, 1), (0, np.inf, 0)]}, "finite.*row 1.*Received"),
        ({"target_positions": [1.0, 2.0, 3.0]}, r"shape \[n, 3\].*Received"),
        ({"max_depth": -1}, "max_depth.*Received: max_depth=-1"),
        ({"samples_per_src": 1}, "samples_per_src.*Received: samples_per_src=1"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = dict(source_positions=SOURCES, target_positions=TARGETS)
    with pytest.raises(UserError, match=message):
        MultiUserPathSolver().trace(street([], []), **(arguments | change))


def test_missing_antennas_and_bad_options_are_named():
    scene = rt.load_scene()
    scene.tx_array = isotropic()
    with pytest.raises(UserError, match=r"scene.rx_array.*Received"):
        MultiUserPathSolver().trace(scene, SOURCES, TARGETS)
    with pytest.raises(UserError, match="Received: max_rays=0"):
        MultiUserPathSolver(max_rays=0)
    with pytest.raises(UserError, match="Received: max_cached_chains=-1"):
        MultiUserPathSolver(max_cached_chains=-1)


def test_empty_scene_has_lines_of_sight_only():
    paths = MultiUserPathSolver().trace(mesh_scene(), SOURCES, TARGETS)
    assert paths.num_interactions.tolist() == [0] * 6
    assert paths.source.tolist() == [0, 0, 0, 1, 1, 1]


def test_coincident_ends_have_no_line_of_sight_but_reflections():
    scene = mesh_scene(WALL)
    here = np.array([(0, 3, 0)], np.float32)
    paths = MultiUserPathSolver().trace(scene, here, here, max_depth=1)
    assert paths.num_interactions.tolist() == [1]
    assert paths.delay[0] * SPEED_OF_LIGHT == pytest.approx(6, rel=1e-6)


def test_ends_in_or_beyond_walls_give_finite_paths():
    scene = mesh_scene(sphere(2.0, 8), WALL)
    inside, on_wall, far = (0.1, 0.2, 0.3), (9, 0, 0), (3000, 4000, 10)
    ends = np.array([inside, on_wall, far], np.float32)
    paths = MultiUserPathSolver().trace(scene, ends, ends)
    for values in fields(paths):
        assert np.isfinite(values).all()
    # The closed sphere lets nothing out.
    from_inside = paths.source == 0
    assert np.all(paths.target[from_inside] == 0)
