import numpy as np
import pytest
import tensorflow as tf

from sionna_loc import registry
from sionna_loc.channels.base import LINK_FIELDS
from sionna_loc.channels.flat_paths import FlatPaths
from sionna_loc.channels.raytraced import RayTracer, group_by_link
from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT

# Above the avenue, with nothing in between; and one behind the houses in the north.
TRPS = np.array([[60.0, -70.0, 30.0], [150.0, -80.0, 20.0], [150.0, 60.0, 1.5]])
UES = np.array([[100.0, -75.0, 1.5], [180.0, -120.0, 1.5]])
SEED = tf.constant([0, 0], tf.int64)


@pytest.fixture(scope="module")
def tracer(small_paris):
    return small_paris.channel


@pytest.fixture(scope="module")
def links(tracer):
    paths = tracer(tf.constant(TRPS, tf.float32), tf.constant(UES, tf.float32), SEED)
    return {name: value.numpy() for name, value in paths.items()}


def test_line_of_sight_has_the_delay_and_gain_of_free_space(tracer, links):
    distance = np.linalg.norm(UES[:, None] - TRPS[None], axis=-1)
    wavelength = SPEED_OF_LIGHT / tracer.scene.carrier_frequency
    seen = np.s_[:, :2]

    assert links["los"].tolist() == [[True, True, False]] * 2
    np.testing.assert_allclose(
        links["path_delay"][seen][..., 0] * SPEED_OF_LIGHT, distance[seen], rtol=1e-6
    )
    # Vertical polarisation at both ends, isotropic: the Friis amplitude.
    np.testing.assert_allclose(
        np.abs(links["path_gain"][seen][..., 0]),
        wavelength / (4 * np.pi * distance[seen]),
        rtol=1e-4,
    )


def test_gain_carries_the_carrier_phase_of_the_delay(tracer, links):
    delay = links["path_delay"][:, :2, 0].astype(np.float64)
    phase = -2 * np.pi * tracer.scene.carrier_frequency * delay
    turned = links["path_gain"][:, :2, 0] * np.exp(-1j * phase)

    # A delay rounded to float32 turns the phase by up to 0.03 rad.
    np.testing.assert_allclose(np.angle(turned), 0, atol=0.05)


def test_angles_point_from_each_end_to_the_other(links):
    away = UES[:, None] - TRPS[None]  # From the TRP to the UE.
    azimuth = np.arctan2(away[..., 1], away[..., 0])
    zenith = np.arccos(away[..., 2] / np.linalg.norm(away, axis=-1))
    seen = np.s_[:, :2]

    def is_near(angle, expected):
        return np.allclose(np.exp(1j * angle), np.exp(1j * expected), atol=1e-4)

    aod, aoa = links["path_aod"][seen][..., 0, :], links["path_aoa"][seen][..., 0, :]
    assert is_near(aod[..., 0], zenith[seen])
    assert is_near(aod[..., 1], azimuth[seen])
    assert is_near(aoa[..., 0], np.pi - zenith[seen])
    assert is_near(aoa[..., 1], azimuth[seen] + np.pi)


def test_reflected_paths_are_later_and_unused_entries_are_zero(links):
    used = np.arange(links["path_gain"].shape[-1]) < links["num_paths"][..., None]
    later = links["path_delay"][:, :2, 1:] - links["path_delay"][:, :2, :1]

    assert (links["num_paths"][:, :2] > 1).all()
    assert (later[used[:, :2, 1:]] > 0).all()
    assert (np.abs(links["path_gain"]) > 0).tolist() == used.tolist()
    for name in ("path_delay", "path_aoa", "path_aod"):
        assert not links[name][~used].any()
    assert (np.diff(np.abs(links["path_gain"]), axis=-1) <= 0).all()


def test_group_by_link_keeps_the_strongest_and_places_each_link():
    flat = FlatPaths(
        source=np.array([0, 0, 0, 1], np.int32),
        target=np.array([1, 1, 1, 0], np.int32),
        gain=np.array([4, 3j, 1, 2], np.complex64),
        delay=np.array([1, 2, 3, 4], np.float32),
        aod=np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32),
        aoa=-np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32),
        num_interactions=np.array([1, 2, 0, 1], np.int32),
    )

    links = group_by_link(flat, num_trps=2, num_ues=3, num_paths=2)

    assert links["num_paths"].tolist() == [[0, 1], [2, 0], [0, 0]]
    assert links["path_gain"][1, 0].tolist() == [4, 3j]
    assert links["path_gain"][0, 1].tolist() == [2, 0]
    assert links["path_delay"][1, 0].tolist() == [1, 2]
    assert links["path_aod"][0, 1].tolist() == [[7, 8], [0, 0]]
    assert links["path_aoa"][1, 0].tolist() == [[-1, -2], [-3, -4]]
    # The direct path counts even where it is too weak to be kept.
    assert links["los"].tolist() == [[False] * 2, [True, False], [False] * 2]


def test_links_without_any_path():
    links = group_by_link(FlatPaths.none(), num_trps=2, num_ues=1, num_paths=3)

    assert links["path_gain"].shape == (1, 2, 3)
    assert links["path_aoa"].shape == (1, 2, 3, 2)
    assert not any(links[name].any() for name in LINK_FIELDS)


def test_same_in_a_function_and_in_a_parallel_map(tracer, links):
    ends = tf.constant(TRPS, tf.float32), tf.constant(UES, tf.float32)
    graph = tf.function(lambda t, u: tracer(t, u, SEED))(*ends)
    dataset = tf.data.Dataset.from_tensors(ends).repeat(4)
    mapped = dataset.map(lambda t, u: tracer(t, u, SEED), num_parallel_calls=2)

    for paths in (graph, *mapped.prefetch(2)):
        for name in LINK_FIELDS:
            np.testing.assert_array_equal(paths[name], links[name])


def test_the_stock_solver_finds_the_same_strong_paths(tracer, links):
    stock = RayTracer(tracer.scene, num_paths=4, solver="stock")
    paths = stock(tf.constant(TRPS, tf.float32), tf.constant(UES, tf.float32), SEED)

    np.testing.assert_array_equal(paths["los"], links["los"])
    for name in ("path_gain", "path_delay"):
        np.testing.assert_allclose(
            np.abs(paths[name][:, :2, 0]), np.abs(links[name][:, :2, 0]), rtol=1e-5
        )
    ratio = paths["path_gain"][:, :2, 0] / links["path_gain"][:, :2, 0]
    np.testing.assert_allclose(np.angle(ratio), 0, atol=0.05)


@pytest.mark.slow
def test_diffracted_paths_are_the_same_each_time():
    scenario = registry.get_scenario("madrid")
    trp_position, ue_position = scenario.positions(tf.constant([0, 1]), 128)
    first, *others = (
        scenario.channel(trp_position, ue_position, SEED) for _ in range(4)
    )
    assert first["num_paths"].numpy().any()
    for paths in others:
        for name in LINK_FIELDS:
            np.testing.assert_array_equal(paths[name], first[name])


def test_a_failing_solver_stops_fit_with_its_type_and_text(small_paris):
    import keras

    class Broken:
        def trace(self, *args, **kwargs):
            raise FloatingPointError("the wall is made of cheese")

    tracer = RayTracer(small_paris.place, num_paths=2)
    tracer._solver = Broken()

    def sample(index):
        ends = tf.zeros([1, 3]), tf.zeros([1, 3]) + tf.cast(index, tf.float32)
        return tracer(*ends, SEED)["path_delay"][0], tf.zeros([1, 1])

    dataset = tf.data.Dataset.range(8).map(sample, num_parallel_calls=2)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    with pytest.raises(tf.errors.OpError, match=r"FloatingPointError: .* of cheese"):
        model.fit(dataset.repeat().prefetch(1), steps_per_epoch=2, verbose=0)


@pytest.mark.parametrize(
    "positions",
    [np.zeros((2, 2)), np.zeros(3), np.zeros((0, 3)), np.full((1, 3), np.nan)],
)
def test_wrong_positions_are_refused(tracer, positions):
    with pytest.raises(UserError, match="`trp_position`"):
        tracer.trace(positions, UES)


@pytest.mark.parametrize(
    "options", [{"num_paths": 0}, {"max_depth": 1.5}, {"solver": "stok"}]
)
def test_wrong_options_are_refused(small_paris, options):
    with pytest.raises(UserError):
        RayTracer(small_paris.place, **{"num_paths": 8, **options})
