import numpy as np
import pytest
from scipy import special

from sionna_loc.models.range_calibration import fit_log_odds


def draw(num_links, late, seed):
    """Levels [dB] of links with and without line of sight, a few much stronger."""
    rng = np.random.default_rng(seed)
    los = rng.random(num_links) < 0.3
    levels = np.where(los, rng.normal(0, 1, num_links), rng.normal(-12, 4, num_links))
    levels[rng.random(num_links) < 0.02] += late
    return levels, los


def test_known_odds_are_found_again():
    rng = np.random.default_rng(0)
    x = rng.uniform(-6, 6, 20_000)
    odds = np.array([0.5, 0.8, -0.1])
    probability = special.expit(odds @ [np.ones_like(x), x, x**2])
    found = fit_log_odds(x, rng.random(len(x)) < probability)
    np.testing.assert_allclose(found, odds, atol=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_odds_are_right_where_newtons_method_diverges(seed):
    """Classes that hardly overlap, and outliers: full Newton steps go to 1e5."""
    levels, los = draw(4000, late=20, seed=seed)
    a, b, c = fit_log_odds(levels, los)
    probability = special.expit(a + b * levels + c * levels**2)
    assert probability.mean() == pytest.approx(los.mean(), abs=1e-3)  # the optimum's
    assert np.mean((probability > 0.5) == los) > 0.95
    assert special.expit(a) > 0.8 > 0.05 > special.expit(a - 12 * b + 144 * c)


def test_classes_that_are_apart_have_finite_odds():
    levels = np.array([-9.0, -8, -7, 1, 2, 3])
    a, b, c = fit_log_odds(levels, levels > 0)
    odds = a + b * levels + c * levels**2
    assert np.all((odds > 0) == (levels > 0)) and np.abs(odds).max() < 40
