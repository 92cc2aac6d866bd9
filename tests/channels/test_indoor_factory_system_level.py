"""The indoor factory on Sionna's system-level classes, eagerly and in a graph."""

import json
from importlib import resources

import numpy as np
import pytest
import tensorflow as tf
from sionna.phy import config
from sionna.phy.channel.tr38901 import PanelArray

from sionna_loc.channels.indoor_factory_system_level import (
    RAY_OFFSETS,
    SUB_CLUSTER_OF_RAY,
    InF,
    InFScenario,
)
from sionna_loc.channels.indoor_factory_tables import read_table
from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT

CARRIER = 3.5e9
BS = np.array([[10, 10, 8], [50, 10, 8]], np.float32)


def make_array(num_cols, polarization):
    return PanelArray(
        num_rows_per_panel=1,
        num_cols_per_panel=num_cols,
        polarization=polarization,
        polarization_type="V" if polarization == "single" else "cross",
        antenna_pattern="omni",
        carrier_frequency=CARRIER,
    )


def make_channel(direction="uplink", **options):
    ut_array, bs_array = make_array(1, "single"), make_array(2, "dual")
    return InF(InFScenario(CARRIER, ut_array, bs_array, direction, **options))


def draw_uts(batch, num_ut, seed=0):
    uniform = np.random.default_rng(seed).uniform(size=(batch, num_ut, 2))
    height = np.full((batch, num_ut, 1), 1.5)
    return np.concatenate([uniform * [120, 60], height], -1).astype(np.float32)


def place(channel, ut_loc, bs_loc=BS, los=None):
    batch, num_ut = ut_loc.shape[:2]
    zeros = tf.zeros([batch, num_ut, 3])
    bs_loc = tf.broadcast_to(bs_loc, [batch, *bs_loc.shape])
    channel.set_topology(
        ut_loc=tf.convert_to_tensor(ut_loc),
        bs_loc=bs_loc,
        ut_orientations=zeros,
        bs_orientations=tf.zeros_like(bs_loc),
        ut_velocities=zeros,
        in_state=tf.zeros([batch, num_ut], tf.bool),
        los=los,
    )


def link_distance(ut_loc):
    return np.linalg.norm(ut_loc[:, None] - BS[:, None], axis=-1)  # [batch, bs, ut]


@pytest.mark.parametrize("state", ["LoS", "NLoS"])
def test_tables_have_every_entry_that_sionna_reads(state):
    own = read_table(state.lower())
    folder = resources.files("sionna.phy.channel.tr38901.models")
    theirs = json.loads(folder.joinpath(f"UMi_{state}.json").read_text())
    # These come from the hall and from the sub-scenario.
    derived = {"muDSa", "muDSb", "muDSc", "sigmaSF"}
    assert set(theirs) - set(own) == derived


def test_ray_offsets_are_those_of_table_7_5_3():
    assert RAY_OFFSETS.shape == (20,)
    np.testing.assert_allclose(RAY_OFFSETS.sum(), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.sqrt((RAY_OFFSETS**2).mean()), 1.0, atol=1e-4)
    installed = make_channel()._ray_sampler._ray_offsets
    np.testing.assert_allclose(installed, RAY_OFFSETS, rtol=1e-6)


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
def test_shapes_and_absolute_delays(direction):
    channel = make_channel(direction)
    ut_loc = draw_uts(2, 3)
    place(channel, ut_loc, los=False)
    gain, delay = channel(1, 1.0)
    flight = link_distance(ut_loc) / SPEED_OF_LIGHT
    if direction == "uplink":
        assert gain.shape == (2, 2, 4, 3, 1, 29, 1)
    else:
        assert gain.shape == (2, 3, 1, 2, 4, 29, 1)
        flight = flight.transpose(0, 2, 1)
    excess = delay.numpy().min(axis=-1) - flight
    assert (excess > 1e-9).all() and (excess < 801e-9).all()


def test_line_of_sight_arrives_with_the_time_of_flight():
    channel = make_channel()
    ut_loc = draw_uts(1, 4)
    place(channel, ut_loc, los=True)
    _, delay = channel(1, 1.0)
    flight = link_distance(ut_loc) / SPEED_OF_LIGHT
    np.testing.assert_allclose(delay.numpy().min(axis=-1), flight, rtol=1e-6)


def test_distance_path_loss_and_probability_use_the_height():
    scenario = make_channel()._scenario
    channel = InF(scenario)
    ut_loc = np.array([[[10, 18, 2], [13, 10, 1.5]]], np.float32)
    place(channel, ut_loc, los=False)
    np.testing.assert_allclose(scenario.distance_3d[0, 0, 0], 10.0, rtol=1e-6)
    np.testing.assert_allclose(scenario.basic_pathloss[0, 0, 0], 66.4114, atol=1e-3)
    np.testing.assert_allclose(
        scenario.los_probability[0, 0, 1], 0.4 ** (3 / 2 * 4.5 / 6.5), rtol=1e-5
    )


def test_large_scale_parameters_have_the_moments_of_the_table():
    config.seed = 1
    channel = make_channel()
    place(channel, draw_uts(3000, 1), los=False)
    lsp = channel._lsp
    ds, sf = np.log10(lsp.ds), 10 * np.log10(lsp.sf)
    np.testing.assert_allclose([ds.mean(), ds.std()], [-7.258, 0.19], atol=0.02)
    np.testing.assert_allclose([sf.mean(), sf.std()], [0.0, 4.0], atol=0.2)
    excess = np.log10(channel._lsp_sampler.excess_delay)
    np.testing.assert_allclose([excess.mean(), excess.std()], [-7.5, 0.4], atol=0.03)


def test_excess_delays_of_neighbours_are_alike():
    config.seed = 2
    channel = make_channel()
    ut_loc = np.array([[[20, 20, 1.5], [20.5, 20, 1.5], [100, 50, 1.5]]], np.float32)
    place(channel, np.repeat(ut_loc, 2000, axis=0), los=False)
    excess = np.log10(channel._lsp_sampler.excess_delay)[:, 0]
    correlation = np.corrcoef(excess.T)
    np.testing.assert_allclose(correlation[0, 1], np.exp(-0.5 / 11), atol=0.03)
    np.testing.assert_allclose(correlation[0, 2], 0.0, atol=0.1)


def draw_rays(num_ut, los):
    config.seed = 3
    channel = make_channel("downlink")
    channel.return_rays = True
    place(channel, draw_uts(num_ut, 1), los=los)
    *_, rays = channel(1, 1.0)
    return rays


@pytest.mark.parametrize("los", [False, True])
def test_clusters_below_25_db_are_left_out(los):
    rays = draw_rays(200, los)
    power = rays.powers.numpy()
    strongest = power.max(axis=-1, keepdims=True)
    assert ((power == 0) | (power >= 10**-2.5 * strongest)).all()
    left_out = (power == 0).mean()
    assert 0.02 < left_out < 0.5
    # Those that stay keep their power: the sum is short of 1 by what is left out.
    total = power.sum(axis=-1)
    assert (total <= 1 + 1e-5).all() and 0.9 < total.mean() < 0.9999


def test_strong_clusters_couple_rays_within_sub_clusters():
    counts = [(SUB_CLUSTER_OF_RAY == i).sum() for i in range(3)]
    assert counts == [10, 6, 4]
    rays = draw_rays(30, False)
    order = np.argsort(-rays.powers.numpy(), axis=-1)
    aoa, aod = rays.aoa.numpy(), rays.aod.numpy()
    mixed = False
    for index in np.ndindex(order.shape[:-1]):
        for rank, cluster in enumerate(order[index]):
            offsets = []
            for angle, width in ((aoa, 8.0), (aod, 5.0)):
                turn = np.exp(1j * angle[(*index, cluster)])
                own = np.degrees(np.angle(turn / turn.mean())) / width
                offsets.append(own)
            for group in range(3):
                inside = SUB_CLUSTER_OF_RAY == group
                expected = np.sort(RAY_OFFSETS[inside])
                for own in offsets:
                    same = np.allclose(np.sort(own[inside]), expected, atol=1e-3)
                    assert same or rank >= 2
                    mixed |= not same
            together = np.allclose(np.sort(offsets[0]), np.sort(RAY_OFFSETS), atol=1e-3)
            assert together and not np.allclose(offsets[0], offsets[1], atol=1e-2)
    assert mixed


@pytest.mark.slow
def test_graph_mode_leaves_nothing_behind():
    channel = make_channel()

    @tf.function
    def draw(ut_loc):
        place(channel, ut_loc)
        return channel(1, 1.0)

    ut_loc = draw_uts(4, 2, seed=3)
    gain, delay = draw(tf.constant(ut_loc))
    assert gain.shape == (4, 2, 4, 2, 1, 29, 1)
    assert np.isfinite(gain.numpy()).all()
    flight = link_distance(ut_loc) / SPEED_OF_LIGHT
    assert (delay.numpy().min(axis=-1) >= flight * (1 - 1e-6)).all()
    again, _ = draw(tf.constant(ut_loc))
    assert not np.allclose(gain, again)  # Drawn anew, not baked into the graph.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sub_scenario": "inf"}, "Known: dh, dl, hh, sh, sl."),
        ({"direction": "up"}, "Known: downlink, uplink."),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        make_channel(**options)
