import numpy as np
import pytest

import sionna_loc.channels  # noqa: F401 (loads LLVM, before Dr.Jit is imported)
from sionna_loc.antennas import PlanarArray
from sionna_loc.assembly import make_features, make_model
from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.angle_spectrum import share_from
from sionna_loc.places.tracer_thread import TRACER_THREAD
from sionna_loc.recipes import RunConfig
from sionna_loc.registry import get_scenario
from sionna_loc.scenarios import paris, paris_scn2
from sionna_loc.signals import array_phase

TRP = np.array([60.0, -70.0, 30.0])
UE = np.array([100.0, -75.0, 1.5])
COURTYARD = np.array([[168.0, -18.0]])
SIDE_STREET = np.array([[25.0, -222.0]])


@pytest.fixture(scope="module")
def scenario():
    return get_scenario("paris_scn2", small=True)


@pytest.fixture(scope="module")
def drop(scenario):
    return {k: v.numpy() for k, v in scenario.drop((5, 7)).items()}


def test_numbers_are_the_papers(scenario):
    assert scenario.num_trps == 64
    assert scenario.ue_array.num_ant == 8
    assert scenario.ue_array.spacing == 0.5
    assert scenario.carrier_frequency == 40e9
    assert scenario.num_taps == 256


def test_streets_are_open_ground_and_no_courtyards(scenario):
    ground = scenario.place.heights(np.concatenate([COURTYARD, SIDE_STREET]))
    np.testing.assert_allclose(ground, 0, atol=1e-3)  # Both are ground ...
    assert scenario.is_street(SIDE_STREET, ground[1:]).all()
    assert not scenario.is_street(COURTYARD, ground[:1]).any()  # ... but one is closed.


def test_trps_stand_on_roofs_and_masts(scenario, drop):
    trp = drop["trp_position"]
    below = scenario.place.heights(trp[:, :2])
    on_roof = below > 8

    assert 0.2 < on_roof.mean() < 0.8
    np.testing.assert_allclose(trp[on_roof, 2], below[on_roof] + 2, atol=1e-3)
    np.testing.assert_allclose(trp[~on_roof, 2], 10, atol=1e-3)
    assert np.ptp(trp[:, 0]) > 200  # All over the block.
    assert np.ptp(trp[:, 1]) > 200


def test_ues_are_all_over_the_streets(scenario, drop):
    ue = drop["ue_position"]

    np.testing.assert_allclose(ue[:, 2], 1.5, atol=1e-3)
    np.testing.assert_allclose(scenario.place.heights(ue[:, :2]), 0, atol=1e-3)
    assert scenario.is_street(ue[:, :2], np.zeros(len(ue))).all()


def test_array_response_is_that_of_sionnas_synthetic_arrays(scenario):
    """The same paths, seen by Sionna's panel of 2 x 4, whatever its orientation."""
    import sionna.rt as rt

    def solve():
        scene = rt.load_scene(rt.scene.etoile)
        scene.frequency = scenario.carrier_frequency
        panel = {"pattern": "iso", "polarization": "V"}
        scene.tx_array = rt.PlanarArray(num_rows=1, num_cols=1, **panel)
        scene.rx_array = rt.PlanarArray(num_rows=2, num_cols=4, **panel)
        scene.add(rt.Transmitter("trp", TRP.tolist()))
        scene.add(rt.Receiver("ue", UE.tolist()))
        paths = rt.PathSolver()(scene, max_depth=2, samples_per_src=10_000)
        gain = paths.cir(normalize_delays=False, out_type="numpy")[0]
        angles = np.stack([paths.theta_r.numpy(), paths.phi_r.numpy()], axis=-1)
        wavelength = float(scene.wavelength[0])
        places = scene.rx_array.positions(wavelength).numpy().T / wavelength
        return gain[0, :, 0, 0, :, 0], angles[0, 0], places

    gain, angles, places = TRACER_THREAD.call(solve)
    exists = np.abs(gain).min(axis=0) > 0
    phase = np.asarray(array_phase(angles.astype("float32"), places.astype("float32")))
    expected = np.exp(1j * (phase - phase[:1]))

    assert exists.sum() >= 3
    ratio = gain[:, exists] / gain[:1, exists]
    np.testing.assert_allclose(ratio, expected[:, exists], atol=2e-3)


def test_back_projection_hears_lines_of_sight_from_where_trps_stand(scenario):
    """At the true position, by the array and the windows that the model is given."""
    model = make_model(RunConfig("paris_scn2", "backprojection", small=True), scenario)
    array = PlanarArray(*model.array_shape, model.array_spacing)
    assert array == scenario.ue_array
    features = make_features(scenario, model)
    fields = (*features.fields, "los")
    batch = next(iter(scenario.batches(8, seed=1, num_trps=64, fields=fields)))
    inputs, targets = features(batch)
    los = batch["los"].flat_values.numpy()
    trp = inputs["trp_position"].flat_values.numpy()
    ue = np.repeat(targets["position"], inputs["cir"].row_lengths(), axis=0)
    way = trp - ue
    distance = np.linalg.norm(way, axis=-1)
    rows = distance * model.sampling_rate / SPEED_OF_LIGHT / model.evidence_stride
    _, fine = model.spectrum(inputs["cir"].flat_values)
    there = np.take_along_axis(
        np.asarray(fine), np.round(rows).astype(int)[:, None, None], axis=1
    )[:, 0]
    east, north, _ = (way / distance[:, None]).T
    share = {
        name: np.median(np.asarray(share_from(there, array, *cosines))[los, 0])
        for name, cosines in (
            ("TRP", (east, north)),
            ("opposite", (-east, -north)),
            ("swapped", (north, east)),
        )
    }
    assert los.sum() > 20
    assert share["TRP"] > 0.9
    assert max(share["opposite"], share["swapped"]) < 0.6


def test_arrays_and_time_base_do_not_change_the_paths(scenario):
    single = get_scenario(
        "paris_scn2", small=True, ue_antennas=(1, 1), synchronised=False
    )
    assert single.ue_array.num_ant == 1
    assert single.fingerprint() == scenario.fingerprint()


@pytest.mark.parametrize("name", ["_GRID", "_MAST", "_MIN_ROOF_HEIGHT", "_ON_AVENUE"])
def test_fingerprint_follows_the_constants(scenario, monkeypatch, name):
    before = scenario.fingerprint()
    monkeypatch.setattr(paris_scn2, name, 2 * getattr(paris_scn2, name))
    assert get_scenario("paris_scn2", small=True).fingerprint() != before


@pytest.mark.parametrize("name", ["UE_HEIGHT", "TRP_ABOVE_ROOF", "CELL_SIDE"])
def test_fingerprint_follows_what_both_scenarios_share(scenario, monkeypatch, name):
    before = scenario.fingerprint()
    monkeypatch.setattr(paris, name, 2 * getattr(paris, name))
    assert get_scenario("paris_scn2", small=True).fingerprint() != before


@pytest.mark.parametrize("antennas", [3, (1, 2, 3), (0, 4), "24"])
def test_arrays_that_cannot_be_are_refused(antennas):
    with pytest.raises(UserError):
        get_scenario("paris_scn2", ue_antennas=antennas)
