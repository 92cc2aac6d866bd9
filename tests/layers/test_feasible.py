import numpy as np
import pytest

from sionna_loc.layers.feasible import longest_range, nearest_feasible

TRP = np.array([[[0, 0, 20], [100, 0, 20], [50, 80, 20]]], "float32")
MASK = np.array([[True, True, True]])
BOX = np.array([-200, -200, 0], "float32"), np.array([200, 200, 3], "float32")


def distances(position):
    return np.linalg.norm(TRP - np.asarray(position)[:, None], axis=-1)


def test_strongest_tap_bounds_the_range():
    response = np.zeros((1, 2, 8, 3), "float32")
    response[0, 0, 3, 2] = response[0, 1, 6, 2] = 1.0
    response[0, 0, 5, 0] = 9.0  # Not the magnitude.
    np.testing.assert_allclose(longest_range(response, 1.5), [[6.0, 10.5]])


def test_what_is_allowed_stays_where_it_is():
    true = np.array([[30, 20, 1.5]], "float32")
    moved = nearest_feasible(true, TRP, distances(true) + 1, MASK, BOX)
    np.testing.assert_array_equal(moved, true)


def test_a_wrong_end_of_the_street_comes_near():
    """No measured range is too short, so only estimates too far away are moved."""
    true = np.array([[10, 5, 1.5]], "float32")
    longest = distances(true) + np.array([[1.0, 60.0, 90.0]], "float32")
    wrong = np.array([[-190, 150, 1.5]], "float32")
    moved = np.asarray(nearest_feasible(wrong, TRP, longest, MASK, BOX))
    assert (distances(moved) <= longest + 0.5).all()
    assert np.linalg.norm(moved - true) < 30
    assert 0 <= moved[0, 2] <= 3


def test_unheard_trps_bound_nothing():
    estimate = np.array([[-150, 0, 1.5]], "float32")
    longest = np.array([[500, 500, 1]], "float32")
    unheard = np.array([[True, True, False]])
    same = nearest_feasible(estimate, TRP, longest, unheard, BOX)
    np.testing.assert_array_equal(same, estimate)
    moved = np.asarray(nearest_feasible(estimate, TRP, longest, MASK, BOX))
    assert np.abs(moved - estimate).max() > 10


@pytest.mark.parametrize("height", [-5.0, 30.0])
def test_estimates_end_in_the_box(height):
    estimate = np.array([[500.0, 0, height]], "float32")
    far = np.full((1, 3), 1e4, "float32")
    moved = np.asarray(nearest_feasible(estimate, TRP, far, MASK, BOX))
    np.testing.assert_allclose(moved, [[200, 0, np.clip(height, 0, 3)]])
