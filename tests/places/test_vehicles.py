import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.places.madrid_grid import in_building
from sionna_loc.places.vehicles import KMH, Driving, Street, StreetGrid
from sionna_loc.scenarios.madrid import STREET_ENDS, STREETS

INTERVAL = 0.1
GRID = StreetGrid(STREETS, *STREET_ENDS)


@pytest.fixture(scope="module")
def tracks():
    return [GRID.drive(1500, np.random.default_rng(seed)) for seed in range(40)]


def every(tracks, name):
    return np.concatenate([getattr(track, name) for track in tracks])


def test_speeds_are_between_the_crossings_and_the_limit_of_the_street(tracks):
    speed, street = every(tracks, "speed"), every(tracks, "street")
    assert speed.min() == pytest.approx(20 * KMH)
    for index, limit in enumerate((40, 60, 20, 40, 40, 40)):
        assert speed[street == index].max() == pytest.approx(limit * KMH)
    crossing = every(tracks, "on_crossing")
    np.testing.assert_allclose(speed[crossing], 20 * KMH)


def test_accelerations_are_those_of_the_paper(tracks):
    for track in tracks:
        change = np.diff(track.speed) / INTERVAL
        assert change.max() < 2 + 1e-9 and change.min() > -3 - 1e-9
    change = np.concatenate([np.diff(track.speed) / INTERVAL for track in tracks])
    full = np.isclose(change, 2).mean(), np.isclose(change, -3).mean()
    assert min(full) > 0.02  # both occur at their full size
    np.testing.assert_allclose(full[0] / full[1], 3 / 2, rtol=0.15)


def test_positions_move_with_the_velocity(tracks):
    for track in tracks:
        moved = np.diff(track.position, axis=0) / INTERVAL
        mean = (track.velocity[1:] + track.velocity[:-1]) / 2
        straight = ~(track.on_crossing[1:] | track.on_crossing[:-1])
        error = np.linalg.norm(moved - mean, axis=1)
        # The mean of the ends is off by at most a quarter of the change of the
        # acceleration within an interval: 5 m/s^2, or v^2 / r where a curve begins.
        assert error[straight].max() < 5 * INTERVAL / 4 + 1e-9
        assert error.max() < (20 * KMH) ** 2 / 1.5 * INTERVAL / 4


def test_vehicles_keep_to_the_lanes_on_the_right(tracks):
    for track in tracks:
        there = ~track.on_crossing
        streets = [GRID.streets[index] for index in track.street[there]]
        vertical = np.array([street.is_vertical for street in streets])
        axis = np.array([street.axis for street in streets])
        x, y = track.position[there].T
        vx, vy = track.velocity[there].T
        # Seen along the way, the right is +x of a vehicle that goes north.
        right = np.where(vertical, (x - axis) * np.sign(vy), -(y - axis) * np.sign(vx))
        np.testing.assert_allclose(right, 1.5 + 3 * track.lane[there], atol=1e-6)
        np.testing.assert_allclose(np.where(vertical, vx, vy), 0, atol=1e-9)
    lanes = every(tracks, "lane")[every(tracks, "street") == 1]
    assert set(lanes) == {0, 1, 2}


def test_vehicles_stay_on_the_map_and_out_of_the_blocks(tracks):
    position = every(tracks, "position")
    assert not in_building(position).any()
    assert (position > 0).all() and (position < [387, 552]).all()


def test_ways_at_crossings_are_taken_equally_often(tracks):
    turns = [turn for track in tracks for turn in track.turns if turn != "around"]
    counts = [turns.count(turn) for turn in ("left", "right", "straight")]
    # Four standard deviations of a third of that many.
    spread = 4 * np.sqrt(len(turns) * (1 / 3) * (2 / 3))
    assert len(turns) > 300
    assert np.abs(np.array(counts) - len(turns) / 3).max() < spread


def test_turns_lead_to_where_they_say():
    streets = (Street(True, 0.0, 20 * KMH), Street(False, 0.0, 20 * KMH))
    grid = StreetGrid(streets, (-50, -50), (50, 50))
    seen = set()
    for seed in range(30):
        track = grid.drive(120, np.random.default_rng(seed))
        turn = track.turns[0]
        end = track.on_crossing.argmax() - 1
        behind = end + 1 + (~track.on_crossing[end + 1 :]).argmax()
        (ax, ay), (bx, by) = track.velocity[end], track.velocity[behind]
        turned = np.arctan2(ax * by - ay * bx, ax * bx + ay * by)
        expected = {"left": 90, "right": -90, "straight": 0, "around": 180}[turn]
        assert np.cos(turned - np.deg2rad(expected)) == pytest.approx(1)
        seen.add(turn)
    assert seen == {"left", "right", "straight", "around"}


def test_a_quarter_circle_has_its_radius():
    streets = (Street(True, 0.0, 20 * KMH), Street(False, 0.0, 20 * KMH))
    grid = StreetGrid(streets, (-60, -60), (60, 60), Driving(turn_radius=10.0))
    for seed in range(20):
        track = grid.drive(400, np.random.default_rng(seed), interval=0.05)
        if "left" in track.turns or "right" in track.turns:
            heading = np.unwrap(np.arctan2(*track.velocity.T[::-1]))
            rate = np.abs(np.diff(heading)) / 0.05
            full = rate[np.abs(rate - 20 * KMH / 10) < 1e-6]
            assert len(full) > 20
            return
    pytest.fail("No vehicle turned.")


def test_starts_are_spread_over_the_streets():
    starts = [GRID.drive(1, np.random.default_rng(seed)) for seed in range(600)]
    position, street = every(starts, "position"), every(starts, "street")
    counts = np.bincount(street, minlength=6)
    # By length of lanes: 534 m of one lane, 534 of three, 534 of one; 369 m each.
    lengths = np.array([534, 3 * 534, 534, 369, 369, 369]) / 3777
    spread = 4 * np.sqrt(600 * lengths * (1 - lengths))
    assert (np.abs(counts - 600 * lengths) < spread).all()
    assert np.ptp(position, axis=0).min() > 300
    assert not every(starts, "on_crossing").any()


def test_the_seed_decides():
    first, again, other = (GRID.drive(50, np.random.default_rng(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.position, again.position)
    assert np.abs(first.position - other.position).max() > 1
    longer = GRID.drive(80, np.random.default_rng(3))
    np.testing.assert_array_equal(longer.position[:50], first.position)


def test_braking_begins_in_time():
    # From 60 to 20 km/h at 3 m/s^2: 41.2 m, to there at 2 m/s^2: 61.7 m.
    phases = Driving().phases(200.0, 60 * KMH)
    duration, speed, acceleration = phases.T
    length = speed * duration + acceleration * duration**2 / 2
    np.testing.assert_allclose(length, [61.73, 200 - 61.73 - 41.15, 41.15], atol=0.01)
    np.testing.assert_allclose(speed[1:] / KMH, 60)
    short = Driving().phases(30.0, 60 * KMH)
    assert short[1, 0] == 0 and short[1, 1] < 60 * KMH


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Driving(braking=0.0), "`braking` must be a number above 0"),
        (
            lambda: StreetGrid(
                [Street(True, 0, 9), Street(True, 10, 9), Street(False, 0, 9)],
                (-50, -50),
                (50, 50),
            ),
            "leave no room to turn",
        ),
        (
            lambda: StreetGrid(
                [Street(True, 48, 9), Street(False, 0, 9)], (-50, -50), (50, 50)
            ),
            "leave no room to turn",
        ),
        (lambda: GRID.drive(0, np.random.default_rng(0)), "num_samples=0"),
        (lambda: GRID.drive(5, np.random.default_rng(0), 0.0), "interval=0.0"),
    ],
)
def test_what_cannot_be_is_one_clear_line(build, message):
    with pytest.raises(UserError, match=message):
        build()
