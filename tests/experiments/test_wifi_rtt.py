import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sionna_loc import reproduce
from sionna_loc.checks import UserError
from sionna_loc.data.measured_set import MeasuredSet
from sionna_loc.experiments import wifi_rooms
from sionna_loc.experiments.wifi_rooms import ROOMS

DATA = Path(__file__).parents[1] / "fixtures" / "wifi_rtt"


def test_rooms_become_files_of_links(tmp_path):
    files = wifi_rooms.convert(DATA, tmp_path / "new" / "data")
    assert set(files) == {(r.name, s) for r in ROOMS for s in ("train", "test")}
    for room in ROOMS:
        found = MeasuredSet(
            [files[room.name, "train"]], test_files=[files[room.name, "test"]]
        )
        found.check_values("link_measurements")
        assert found.num_sites == len(room.access_points)


def test_the_first_scan_is_that_of_the_table():
    office = ROOMS[1]
    fields = wifi_rooms.read_room(DATA, office, "train")
    text = (DATA / "office_train.csv").read_text().splitlines()[1].split(",")
    x, y, *measured = map(float, text[:-1])
    np.testing.assert_allclose(fields["range"][0], np.array(measured[:5]) / 1000)
    np.testing.assert_allclose(fields["power"][0], measured[5:])
    # Coordinates count from the mean of the access points, in metres.
    centre = np.mean(office.places, axis=0)
    expected = [*(0.6 * (np.array([x, y]) - centre)), 0]
    np.testing.assert_allclose(fields["ue_position"][0], expected, rtol=1e-6)
    np.testing.assert_allclose(fields["trp_position"].mean(axis=1), 0, atol=1e-6)
    between = np.linalg.norm(
        fields["trp_position"][0, 0] - fields["trp_position"][0, 1]
    )
    assert between == pytest.approx(0.6 * np.hypot(10, 6), rel=1e-6)


def test_the_access_point_without_a_place_is_left_out():
    corridor = ROOMS[2]
    fields = wifi_rooms.read_room(DATA, corridor, "test")
    row = (DATA / "corridor_test.csv").read_text().splitlines()[1].split(",")
    np.testing.assert_allclose(fields["range"][0], np.array(row[3:7], float) / 1000)
    assert row[2] == "100000.0"  # of access point 1: never heard
    assert fields["trp_position"].shape[1] == 4


def test_least_squares_finds_the_point_of_exact_ranges():
    generator = np.random.default_rng(0)
    aps = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], float)
    points = generator.uniform(1, 9, (20, 2))
    distance = np.linalg.norm(points[:, None] - aps, axis=-1)
    mask = np.ones((20, 4), bool)
    mask[::2, 3] = False
    distance[::2, 3] = 99.0
    fields = {
        "range": distance,
        "trp_mask": mask,
        "trp_position": np.tile(np.c_[aps, np.zeros(4)], (20, 1, 1)),
    }
    np.testing.assert_allclose(wifi_rooms.least_squares(fields), points, atol=0.05)


def test_neighbours_are_those_of_similar_ranges():
    train = {
        "range": np.array([[1.0, 9.0], [1.2, 9.0], [9.0, 1.0]]),
        "trp_mask": np.ones((3, 2), bool),
        "ue_position": np.array([[0, 0, 0], [3, 0, 0], [50, 50, 0]], float),
    }
    test = {"range": np.array([[1.1, 9.0]]), "trp_mask": np.ones((1, 2), bool)}
    found = wifi_rooms.nearest_neighbours(train, test, num_neighbours=2)
    np.testing.assert_allclose(found, [[1.5, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "The data of the WiFi rooms are not there"),
        ("X,Y,R\n1,2,\n", "must have X, Y, ranges, powers"),
        ("X,Y,R\n1,a,\n", "must have X, Y, ranges, powers"),
    ],
)
def test_data_that_are_missing_or_of_something_else(tmp_path, content, message):
    if content is not None:
        (tmp_path / "office_train.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        wifi_rooms.read_room(tmp_path, ROOMS[1], "train")


def test_the_command_needs_its_data(tmp_path):
    output = ["--output", str(tmp_path / "new")]
    with pytest.raises(UserError, match="wifi_rtt needs --data DIR"):
        reproduce.main(["wifi_rtt", *output])
    with pytest.raises(UserError, match="nothing else takes it"):
        reproduce.main(["table2", "--data", str(DATA), *output])
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_whole_experiment_on_a_few_scans(tmp_path, capsys):
    shutil.copytree(DATA, tmp_path / "data")
    words = ["wifi_rtt", "--small", "--data", str(tmp_path / "data")]
    words += ["--output", str(tmp_path / "out"), "--quiet"]
    reproduce.main(words)
    text = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = {(result["row"], result["label"]) for result in results}
    for room in ROOMS:
        assert (f"wifi_rtt:{room.name}", "HypLoc, set") in rows
        assert (f"wifi_rtt:without {room.name}, 5 scans", "HypLoc, set") in rows
        assert room.label in text
    assert all(np.isfinite(result["ours"]["rmse"]) for result in results)
    assert (tmp_path / "out" / "shots.png").exists()
    reproduce.main(words)  # everything is there already
    assert capsys.readouterr().out == text
