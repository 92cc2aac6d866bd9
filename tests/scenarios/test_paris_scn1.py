import importlib.metadata
import json

import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.channels import raytraced
from sionna_loc.registry import get_scenario
from sionna_loc.sample import FIELDS
from sionna_loc.scenarios import paris, paris_scn1

CONSTANTS = [
    pytest.param(module, name, id=name)
    for module in (paris, paris_scn1, raytraced)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, int | float | np.ndarray)
    if module is paris or name not in vars(paris)
]


@pytest.fixture(scope="module")
def drop(small_paris):
    return {k: v.numpy() for k, v in small_paris.drop((5, 7)).items()}


def test_radio_numbers_are_the_papers(small_paris):
    assert small_paris.carrier_frequency == 40e9
    assert small_paris.bandwidth == 100e6
    assert small_paris.sampling_rate == 200e6
    assert small_paris.num_taps == 256
    assert small_paris.num_trps == 12
    size = np.diff(small_paris.region, axis=0)[0]
    assert size[:2].tolist() == [280, 280]


def test_full_size_has_64_sites():
    assert get_scenario("paris_scn1").num_sites == 64


def test_ues_stand_on_the_avenue(small_paris, drop):
    ue = drop["ue_position"]

    assert ue.shape == (small_paris.num_ues, 3)
    np.testing.assert_allclose(ue[:, 2], 1.5, atol=1e-3)
    np.testing.assert_allclose(small_paris.place.heights(ue[:, :2]), 0, atol=1e-3)
    assert (paris_scn1.distance_from_axis(ue[:, :2]) < 36).all()
    assert (ue >= small_paris.region[0]).all()
    assert (ue <= small_paris.region[1]).all()


def test_trps_stand_two_metres_above_roofs_along_the_avenue(small_paris, drop):
    trp = drop["trp_position"]
    roof = small_paris.place.heights(trp[:, :2])
    distance = paris_scn1.distance_from_axis(trp[:, :2])

    np.testing.assert_allclose(trp[:, 2], roof + 2, atol=1e-3)
    assert (roof > 8).all()
    assert (distance > 35).all()
    assert (distance < 61).all()  # 35.5 m to the fronts, 25 m of roofs.
    offset = trp[:, :2] - np.array([6.3, -26.9])
    is_north = offset @ np.array([120.0, 250.0]) > 0
    assert 0 < is_north.mean() < 1
    assert (trp[:, :2] >= small_paris.region[0, :2]).all()
    assert (trp[:, :2] <= small_paris.region[1, :2]).all()


def test_the_avenue_lies_where_the_houses_are_not(small_paris):
    """No house stands in the avenue, and houses line most of both sides."""
    along = np.linspace(30, 270, 241)[:, None] * paris_scn1._AXIS
    normal = np.array([-paris_scn1._AXIS[1], paris_scn1._AXIS[0]])
    heights = {
        side: small_paris.place.heights(paris_scn1._AXIS_POINT + along + side * normal)
        for side in (-38, -30, 0, 30, 38)
    }

    assert all((heights[side] > 8).mean() < 0.01 for side in (-30, 0, 30))
    assert (heights[38] > 8).mean() > 0.8
    assert (heights[-38] > 8).mean() > 0.5


def test_drop_has_the_documented_shapes_and_links(small_paris, drop):
    links = small_paris.num_ues, small_paris.num_sites
    for name, spec in FIELDS.items():
        assert drop[name].dtype == spec.numpy_dtype
        if name not in ("ue_position", "trp_position"):
            inner = spec.element_shape(small_paris.num_paths)[1:]
            assert drop[name].shape == (*links, *inner)
    assert 0.6 < (drop["num_paths"] > 0).mean() < 1
    assert 0.15 < drop["los"].mean() < 0.7


def test_direct_delays_fit_the_positions_of_the_same_row(drop):
    """Fails if UEs and TRPs are swapped, copied or in another order."""
    away = drop["ue_position"][:, None] - drop["trp_position"][None]
    distance = np.linalg.norm(away, axis=-1)
    first = np.where(np.abs(drop["path_gain"]) > 0, drop["path_delay"], np.inf).min(
        axis=-1
    )
    heard = drop["num_paths"] > 0
    los = drop["los"]

    np.testing.assert_allclose(first[los] * 299_792_458, distance[los], rtol=1e-5)
    assert (first[heard & ~los] * 299_792_458 > distance[heard & ~los] * 1.00001).all()


def test_drops_are_a_pure_function_of_the_seed(small_paris, drop):
    again = small_paris.drop((5, 7))
    other = small_paris.drop((6, 7))

    for name in FIELDS:
        np.testing.assert_array_equal(again[name], drop[name])
    assert not np.isin(other["ue_position"][:, 0], drop["ue_position"][:, 0]).any()
    assert not np.isin(other["trp_position"][:, 0], drop["trp_position"][:, 0]).any()


def test_drop_works_in_a_graph(small_paris, drop):
    graph = tf.function(small_paris.drop)(tf.constant([5, 7]))

    np.testing.assert_array_equal(graph["path_gain"], drop["path_gain"])


def test_fingerprint_follows_everything_that_changes_the_data(small_paris):
    same = get_scenario("paris_scn1", small=True)
    others = [
        get_scenario("paris_scn1"),
        get_scenario("paris_scn1", small=True, max_depth=2),
        get_scenario("paris_scn1", small=True, solver="stock"),
    ]
    fingerprints = {s.fingerprint() for s in (small_paris, same, *others)}

    assert same.fingerprint() == small_paris.fingerprint()
    assert len(fingerprints) == 4
    json.dumps(small_paris.config())


@pytest.mark.parametrize(("module", "name"), CONSTANTS)
def test_fingerprint_follows_every_constant(small_paris, monkeypatch, module, name):
    before = small_paris.fingerprint()
    monkeypatch.setattr(module, name, 2 * getattr(module, name))

    assert get_scenario("paris_scn1", small=True).fingerprint() != before


def test_fingerprint_follows_the_version_of_sionna_rt(small_paris, monkeypatch):
    before = small_paris.fingerprint()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 99")

    assert small_paris.fingerprint() != before
