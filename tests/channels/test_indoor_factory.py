"""The indoor factory: statelessness, statistics, absolute time, options."""

import json

import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.channels.base import LINK_FIELDS
from sionna_loc.channels.indoor_factory import IndoorFactory
from sionna_loc.channels.indoor_factory_fields import SpatialConsistency
from sionna_loc.channels.indoor_factory_links import LargeScaleModel
from sionna_loc.channels.indoor_factory_tables import Clutter, large_scale_moments
from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.places.factory_hall import FactoryHall
from sionna_loc.sample import FIELDS
from sionna_loc.signals import band_limited_taps

HALL = FactoryHall()
TRPS = HALL.trp_position
COARSE = SpatialConsistency(num_sinusoids=64)
"""Enough where the autocorrelation does not matter; fast to set up."""


def draw_ues(count, seed=0):
    uniform = np.random.default_rng(seed).uniform(*HALL.ue_region, (count, 3))
    return uniform.astype(np.float32)


def trace(channel, ue_position, trp_position=TRPS):
    paths = channel(trp_position, ue_position, (0, 0))
    return {name: value.numpy() for name, value in paths.items()}


def link_distance(ue_position, trp_position=TRPS):
    offset = ue_position[:, None].astype(np.float64) - trp_position
    return np.linalg.norm(offset, axis=-1)


def assert_same(actual, expected):
    np.testing.assert_array_equal(actual["num_paths"], expected["num_paths"])
    np.testing.assert_array_equal(actual["los"], expected["los"])
    for name in ("path_gain", "path_delay", "path_aoa", "path_aod"):
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-5 * scale)


@pytest.fixture(scope="module")
def factory():
    return IndoorFactory(HALL, seed=3)


@pytest.fixture(scope="module")
def ues():
    return draw_ues(300)


@pytest.fixture(scope="module")
def paths(factory, ues):
    return trace(factory, ues)


def test_fields_are_those_of_the_contract(factory, paths):
    assert tuple(sorted(paths)) == tuple(sorted(LINK_FIELDS))
    for name, value in paths.items():
        shape = FIELDS[name].element_shape(factory.num_paths)
        assert value.shape == (300, 18, *shape[1:])
        assert value.dtype == FIELDS[name].numpy_dtype
        assert np.isfinite(value).all()


def test_paths_are_sorted_and_the_rest_is_zero(factory, paths):
    power = np.abs(paths["path_gain"]) ** 2
    assert (np.diff(power, axis=-1) <= 0).all()
    exists = np.arange(factory.num_paths) < paths["num_paths"][..., None]
    np.testing.assert_array_equal(power > 0, exists)
    for name in ("path_delay", "path_aoa", "path_aod"):
        assert (paths[name][~exists] == 0).all() and (paths[name][exists] != 0).all()


def test_any_batch_and_any_order_give_the_same(factory, ues, paths):
    order = np.random.default_rng(1).permutation(18)
    for part in (slice(250, 300), slice(7, 8)):
        again = trace(factory, ues[part][::-1], TRPS[order])
        expected = {name: value[part][::-1][:, order] for name, value in paths.items()}
        assert_same(again, expected)


def test_subset_of_the_trps_keeps_their_channels(factory, ues, paths):
    kept = [16, 2, 9]
    again = trace(factory, ues[:20], TRPS[kept])
    assert_same(again, {name: value[:20, kept] for name, value in paths.items()})


def test_graphs_and_pipelines_give_the_same(factory, ues, paths):
    few = {name: value[:20] for name, value in paths.items()}

    @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None, 3])])
    def unknown_sizes(trps, position):
        return factory(trps, position, (1, 2))

    assert_same(unknown_sizes(TRPS, ues[:20]), few)
    dataset = tf.data.Dataset.from_tensor_slices(ues[:20]).batch(5, drop_remainder=True)
    dataset = dataset.map(lambda x: factory(TRPS, x, (0, 0)), num_parallel_calls=2)
    batches = list(dataset.as_numpy_iterator())
    joined = {name: np.concatenate([b[name] for b in batches]) for name in LINK_FIELDS}
    assert_same(joined, few)


def test_another_seed_is_another_factory_and_another_instance_the_same(ues, paths):
    same = trace(IndoorFactory(HALL, seed=3), ues[:5])
    assert_same(same, {name: value[:5] for name, value in paths.items()})
    other = trace(IndoorFactory(HALL, seed=4), ues[:5])
    assert np.abs(other["path_gain"] - paths["path_gain"][:5]).mean() > (
        0.1 * np.abs(paths["path_gain"][:5]).mean()
    )


def test_neighbours_are_alike_and_strangers_are_not(factory):
    start = draw_ues(60, seed=5)
    start[:, 0] = np.minimum(start[:, 0], 99)
    responses = []
    for dx in (0.0, 0.1, 20.0):
        taken = trace(factory, start + np.float32([dx, 0, 0]))
        taps = np.minimum(np.rint(taken["path_delay"] * 100e6).astype(int), 255)
        response = np.zeros((*taps.shape[:2], 256), complex)
        index = np.indices(taps.shape)
        np.add.at(response, (index[0], index[1], taps), taken["path_gain"])
        responses.append(response)
    here, near, far = responses

    def likeness(other):
        product = np.abs((here * other.conj()).sum(-1))
        return (product / np.sqrt(energy(here) * energy(other))).mean()

    def energy(response):
        return (np.abs(response) ** 2).sum(-1)

    assert likeness(near) > 0.35
    assert likeness(far) < 0.5 * likeness(near)


def excess_over_flight(paths, ue_position):
    exists = np.abs(paths["path_gain"]) > 0
    delay = np.where(exists, paths["path_delay"], np.inf).min(axis=-1)
    return delay - link_distance(ue_position) / SPEED_OF_LIGHT


def test_nothing_is_faster_than_light(paths, ues):
    assert excess_over_flight(paths, ues).min() > 0


@pytest.fixture(scope="module")
def many():
    """One UE per position, no consistency: 18,000 independent links."""
    channel = IndoorFactory(HALL, consistency=SpatialConsistency(shape="none"))
    ue_position = draw_ues(1000, seed=2)
    return ue_position, trace(channel, ue_position)


def test_excess_delay_has_the_statistics_of_the_table(many):
    # Clusters that are pruned may be the first: a little is added then.
    ue_position, paths = many
    exponent = np.log10(excess_over_flight(paths, ue_position))
    np.testing.assert_allclose(np.median(exponent), -7.5, atol=0.05)
    np.testing.assert_allclose(exponent.std(), 0.4, atol=0.03)
    assert 10 ** exponent.max() <= 2 * HALL.longest_side / SPEED_OF_LIGHT + 100e-9


def test_coupling_loss_has_path_loss_and_shadowing_of_the_table(many):
    ue_position, paths = many
    gain = 10 * np.log10((np.abs(paths["path_gain"]) ** 2).sum(-1))
    loss = 33.63 + 21.9 * np.log10(link_distance(ue_position)) + 20 * np.log10(3.5)
    rest = gain + loss
    # Fading of the sum of the clusters adds to the shadowing of 4 dB.
    np.testing.assert_allclose(rest.mean(), 0.0, atol=0.6)
    assert 4.0 < rest.std() < 4.8


@pytest.mark.parametrize("state", ["los", "nlos"])
def test_large_scale_parameters_have_moments_and_correlations_of_the_table(state):
    model = LargeScaleModel("dh", HALL, 3.5e9)
    draws = np.random.default_rng(0).standard_normal((20_000, 1, model.num_normals))
    los = tf.fill([20_000, 1], state == "los")
    large = model(tf.constant(draws, tf.float32), los)
    values = [np.log10(np.asarray(large.delay_spread))]
    for name in ("aod_spread", "aoa_spread"):
        values.append(np.log10(np.degrees(getattr(large, name))))
    values.append(large.shadowing)
    values.append(large.k_factor if state == "los" else np.zeros((20_000, 1)))
    for name in ("zoa_spread", "zod_spread"):
        values.append(np.log10(np.degrees(getattr(large, name))))
    values = np.concatenate(values, axis=1)
    mean, spread = large_scale_moments(state, "dh", HALL, 3.5e9)
    error = (values.mean(axis=0) - mean)[spread > 0] / spread[spread > 0]
    np.testing.assert_allclose(error, 0.0, atol=0.03)
    np.testing.assert_allclose(values.std(axis=0), spread, rtol=0.02)
    if state == "los":
        ds_k, asd_k = np.corrcoef(values.T)[[0, 1], [4, 4]]
        np.testing.assert_allclose([ds_k, asd_k], [-0.7, -0.5], atol=0.02)


def test_line_of_sight_is_drawn_with_its_probability_and_stays_in_place():
    # One height for all: the probability depends on the horizontal distance alone.
    clutter = Clutter(density=0.4, height=2.0, size=2.0)
    channel = IndoorFactory(
        HALL, line_of_sight="drawn", clutter=clutter, consistency=COARSE
    )
    ue_position = draw_ues(1500, seed=4)
    los = trace(channel, ue_position)["los"]
    horizontal = link_distance(ue_position * [1, 1, 0], TRPS * [1, 1, 0])
    probability = np.exp(horizontal * np.log(0.6) / 2 * 0.5 / 6.5)
    np.testing.assert_allclose(los.mean(), probability.mean(), atol=0.03)
    near = horizontal < 20
    np.testing.assert_allclose(los[near].mean(), probability[near].mean(), atol=0.06)
    beside = trace(channel, ue_position + np.float32([0.02, 0, 0]))["los"]
    assert (beside == los).mean() > 0.9
    far = trace(channel, ue_position[::-1])["los"]
    assert (far == los).mean() < 0.75


@pytest.fixture(scope="module")
def sight():
    """Links that all have line of sight."""
    channel = IndoorFactory(HALL, line_of_sight="always", consistency=COARSE)
    ue_position = draw_ues(200, seed=6)
    return ue_position, trace(channel, ue_position)


def test_line_of_sight_begins_at_the_time_of_flight(sight):
    ue_position, paths = sight
    assert paths["los"].all() and paths["num_paths"].max() > 26
    np.testing.assert_allclose(excess_over_flight(paths, ue_position), 0, atol=1e-13)


def test_specular_path_points_to_the_other_end_with_the_carrier_phase(sight):
    ue_position, paths = sight
    distance = link_distance(ue_position)
    direct = np.abs(paths["path_delay"] - distance[..., None] / SPEED_OF_LIGHT) < 1e-13
    direct &= np.abs(paths["path_gain"]) > 0
    # The first cluster comes at the same time, and from the same direction.
    u, t, p = np.nonzero(direct)
    toward = (TRPS[t] - ue_position[u]) / distance[u, t, None]
    for name, sign in (("path_aoa", 1), ("path_aod", -1)):
        zenith, azimuth = paths[name][u, t, p].T.astype(np.float64)
        seen = np.stack(
            [
                np.sin(zenith) * np.cos(azimuth),
                np.sin(zenith) * np.sin(azimuth),
                np.cos(zenith),
            ],
            axis=-1,
        )
        np.testing.assert_allclose(seen, sign * toward, atol=1e-4)
    strong = paths["path_gain"][..., 0] * np.exp(
        2j * np.pi * distance * 3.5e9 / SPEED_OF_LIGHT
    )
    is_specular = direct[..., 0] & ~direct[..., 1:].any(axis=-1)
    in_phase = np.abs(np.angle(strong[is_specular])) < 0.02
    # Where the first cluster is pruned, the only path at that time is the specular.
    assert not is_specular.any() or in_phase.all()


def test_specular_share_follows_the_k_factor(sight):
    _, paths = sight
    power = np.abs(paths["path_gain"]) ** 2
    share = 10 * np.log10(power[..., 0] / power[..., 1:].sum(axis=-1))
    # K is 7 dB in the median; the rest fades.
    assert 3 < np.median(share) < 11


def test_clocks_shift_all_delays_of_an_end_alike(ues, paths):
    channel = IndoorFactory(HALL, seed=3, trp_sync_error=10e-9, ue_clock_offset=50e-9)
    exists = np.abs(paths["path_gain"]) > 0
    shifted = trace(channel, ues[:100])
    added = shifted["path_delay"] - paths["path_delay"][:100]
    assert (added[~exists[:100]] == 0).all()
    link = np.where(exists[:100], added, np.nan)
    assert np.nanmax(np.nanstd(link, axis=-1)) < 1e-12
    link = np.nanmean(link, axis=-1)
    of_ue, of_trp = link.mean(axis=1, keepdims=True), link.mean(axis=0)
    np.testing.assert_allclose(link, of_ue + of_trp - link.mean(), atol=1e-12)
    of_trp = of_trp - of_trp.mean()
    assert 4e-9 < of_trp.std() < 14e-9 and np.ptp(of_trp) <= 40e-9
    # A normal distribution cut at two standard deviations keeps 0.88 of its spread.
    np.testing.assert_allclose(of_ue.std(), 0.88 * 50e-9, rtol=0.2)
    assert np.ptp(of_ue) <= 200e-9


def test_fewer_paths_are_the_strongest(ues, paths):
    few = trace(IndoorFactory(HALL, seed=3, num_paths=4), ues[:5])
    np.testing.assert_allclose(
        few["path_gain"], paths["path_gain"][:5, :, :4], rtol=1e-4, atol=1e-12
    )
    assert few["num_paths"].max() == 4


def test_independent_phases_leave_power_and_delay_alone(ues, paths):
    channel = IndoorFactory(HALL, seed=3, consistency=SpatialConsistency(phases=False))
    near = [trace(channel, ues[:50] + np.float32([dx, 0, 0])) for dx in (0, 0.01)]
    first, second = (excess_over_flight(p, ues[:50]) for p in near)
    assert np.median(np.abs(first - second)) < 3e-9 < np.median(first)
    turned = np.angle(near[0]["path_gain"][..., 0] / near[1]["path_gain"][..., 0])
    assert np.abs(turned).mean() > 1.0
    still = trace(IndoorFactory(HALL, seed=3), ues[:50] + np.float32([0.01, 0, 0]))
    turned = np.angle(still["path_gain"][..., 0] / paths["path_gain"][:50, :, 0])
    assert np.abs(turned).mean() < 0.5


def test_config_is_json_and_tells_factories_apart(factory):
    config = json.loads(json.dumps(factory.config()))
    assert config["hall"]["length"] == 120.0
    assert config["clutter"] == {"density": 0.6, "height": 6.0, "size": 2.0}
    for options in ({"seed": 4}, {"consistency": COARSE}, {"sub_scenario": "sh"}):
        other = IndoorFactory(HALL, **{"seed": 3, **options})
        assert other.config() != factory.config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sub_scenario": "DH"}, "Unknown InF sub-scenario 'DH'. Known: dh, dl"),
        ({"line_of_sight": "off"}, "Known: always, drawn, never."),
        ({"line_of_sight": "never", "sub_scenario": "hh"}, "always has line of sight"),
        ({"seed": -1}, "`seed` must be a whole number of 0 or more. Received: seed=-1"),
        ({"carrier_frequency": 0.0}, "Received: carrier_frequency=0.0."),
        ({"trp_sync_error": -1e-9}, "Received: trp_sync_error=-1e-09."),
        ({"ue_clock_offset": -1e-9}, "Received: ue_clock_offset=-1e-09."),
        ({"num_paths": 0}, "Received: num_paths=0."),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError) as error:
        IndoorFactory(**options)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "linear"}, "Known: exponential, gaussian, none, quadriga."),
        ({"clusters": 0.0}, "Received: clusters=0.0."),
        ({"excess_delay": -1.0}, "Received: excess_delay=-1.0."),
        ({"phases": 1}, "Received: phases=1."),
    ],
)
def test_bad_consistency_is_named(options, message):
    with pytest.raises(UserError) as error:
        SpatialConsistency(**options)
    assert message in str(error.value)


def power_delay_profiles(channel, ue_position):
    """Return 256 taps of each TRP in dB, [num_ues, 18 * 256]."""
    profiles = []
    for part in np.split(ue_position, len(ue_position) // 250):
        paths = channel(TRPS, part, (0, 0))
        real, imag = band_limited_taps(
            paths["path_gain"],
            paths["path_delay"],
            num_taps=256,
            sampling_rate=100e6,
            bandwidth=100e6,
        )
        power = np.asarray(real) ** 2 + np.asarray(imag) ** 2
        profiles.append(10 * np.log10(power + 1e-11).reshape(len(part), -1))
    return np.concatenate(profiles)


def nearest_neighbour_error(shape):
    """Return the mean error of 4 nearest of 6,000 fingerprints [m]."""
    channel = IndoorFactory(HALL, consistency=SpatialConsistency(shape=shape))
    known, asked = draw_ues(6000, seed=20), draw_ues(500, seed=21)
    marks, marks_asked = (power_delay_profiles(channel, x) for x in (known, asked))
    distance = (marks**2).sum(1) - 2 * marks_asked @ marks.T
    nearest = np.argpartition(distance, 4, axis=1)[:, :4]
    return np.linalg.norm(known[nearest].mean(axis=1) - asked, axis=1).mean()


@pytest.mark.slow
def test_fingerprints_tell_positions_only_where_the_channel_is_consistent():
    assert nearest_neighbour_error("exponential") < 1.1
    assert nearest_neighbour_error("none") > 4.0
