"""How the calibration of the indoor factory sorts links, reads and compares."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from sionna_loc.places.factory_hall import FactoryHall

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def calibration():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("indoor_factory_calibration")
    sys.modules.pop("indoor_factory_calibration")


def make_links(generator, los):
    names = ("coupling_loss", "delay_spread", "asa", "zsa", "asd", "zsd")
    links = {name: generator.uniform(1, 2, los.shape) for name in names}
    return {**links, "los": los, "excess_delay": np.where(los, 0.0, 30e-9)}


def test_links_are_taken_apart_by_their_state(calibration):
    los = np.array([[True, False, False], [False, False, True]])
    links = make_links(np.random.default_rng(0), los)
    samples = calibration.quantities(links)
    np.testing.assert_array_equal(
        samples[calibration.BEST], links["coupling_loss"].min(axis=1)
    )
    assert samples[calibration.ALL].size == 6
    np.testing.assert_array_equal(
        samples["ZSD [deg], LOS"], links["zsd"][[0, 1], [0, 2]]
    )
    np.testing.assert_allclose(
        samples["delay spread [ns], NLOS"], links["delay_spread"][~los] * 1e9
    )
    assert samples["line of sight"].mean() == 1 / 3
    np.testing.assert_allclose(samples[calibration.EXCESS], [30.0] * 4)


def test_what_differs_is_marked(calibration, capsys):
    generator = np.random.default_rng(1)
    los = generator.uniform(size=(300, 4)) < 0.5
    ours, theirs = (make_links(generator, los) for _ in range(2))
    theirs["asa"] += 0.3
    calibration.print_comparison(
        {"dh": calibration.quantities(ours)}, {"dh": calibration.quantities(theirs)}
    )
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    marked = {row[1] for row in rows if row[-1].startswith(">")}
    assert marked == {"ASA [deg], NLOS", "ASA [deg], LOS"}
    shifts = {row[1]: float(row[5]) for row in rows}
    assert shifts["ASA [deg], LOS"] == pytest.approx(-0.3, abs=0.05)


def reference_of(hall, ue_position, los):
    return {
        "hall": np.array([hall.length, hall.width, hall.height]),
        "trp_position": hall.trp_position,
        "ue_position": ue_position,
        "los": los,
    }


def test_independent_links_are_drawn_at_the_positions_of_the_reference(calibration):
    hall = FactoryHall.calibration("dl")
    # 3, 4 and 10 m from the first TRP; sparse clutter's loss is the larger one there.
    ues = hall.trp_position[0] + np.float32([[3, 0, 0], [0, -4, 0], [6, 8, 0]])
    los = np.zeros((3, len(hall.trp_position)), bool)
    los[2, 0] = True
    reference = reference_of(hall, ues, los)
    links = calibration.draw_like(reference, "dl", 3.5e9, num_factories=2)
    loss = 33 + 25.5 * np.log10([3, 4]) + 20 * np.log10(3.5)
    np.testing.assert_allclose(links["path_loss"][:2, 0], loss, atol=1e-3)
    sight = 31.84 + 21.5 + 19 * np.log10(3.5)
    np.testing.assert_allclose(links["path_loss"][2, 0], sight, atol=1e-3)
    probability = 0.4 ** (np.array([3, 4, 10]) / 2)
    np.testing.assert_allclose(links["los_probability"][:, 0], probability, rtol=1e-5)
    assert links["std_SF"][2, 0] == 4.3 and (links["std_SF"][:2] == 7.2).all()
    assert links["drawn_los"] is los and links["coupling_loss"].shape == los.shape
    assert (links["drawn_K"] > -np.inf).sum() == 1


def test_another_hall_is_refused(calibration):
    hall = FactoryHall.calibration("dl")
    reference = reference_of(hall, np.zeros((1, 3), np.float32), np.zeros((1, 18)))
    with pytest.raises(ValueError, match="another hall of InF-sl"):
        calibration.draw_like(reference, "sl", 3.5e9, num_factories=1)


def test_references_are_read_as_they_were_written(calibration, tmp_path):
    ue_position = np.float32([[3, 4, 1.5], [9, 9, 1.5]])
    trp_position = np.float32([[0, 0, 8], [3, 16, 8]])
    values = {
        f"{name}/{part}": value
        for name in calibration.SUB_SCENARIOS
        for part, value in (
            ("ue_position", ue_position),
            ("trp_position", trp_position),
        )
    }
    path = tmp_path / "reference.npz"
    np.savez(path, settings='{"seed": 5}', **values)
    settings, links = calibration.read_reference(path, 1)
    assert settings == {"seed": 5} and tuple(links) == calibration.SUB_SCENARIOS
    np.testing.assert_allclose(links["sh"]["distance"], [[5.0, 12.0]])
