"""What multilateration learns about ranges and UEs from samples of a scenario."""

import numpy as np
from scipy import optimize, special

_KERNEL_WIDTH = 10.0  # of the density of UEs [m]
_PENALTY = 1e-2  # so that classes that can be told apart have finite odds
_DENSITY_FLOOR = 1e-3  # of the mean density, where no UE was seen


def fit_log_odds(x: np.ndarray, is_true: np.ndarray) -> np.ndarray:
    """Fit log-odds `a + b x + c x^2` of `is_true` by logistic regression.

    Args:
        x: [num_samples], float.
        is_true: [num_samples], bool.

    Returns: `a`, `b` and `c`, [3].
    References: Hastie, Tibshirani and Friedman, "The Elements of Statistical
        Learning", Sec. 4.4.
    """
    spread = max(float(np.std(x)), 1e-3)
    z = np.clip(x / spread, -4, 4)
    features = np.stack([np.ones_like(z), z, z**2], axis=-1).astype("float64")

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        odds = features @ beta
        value = np.sum(np.logaddexp(0, odds) - is_true * odds)
        gradient = features.T @ (special.expit(odds) - is_true)
        return value + _PENALTY / 2 * beta @ beta, gradient + _PENALTY * beta

    found = optimize.minimize(loss, np.zeros(3), jac=True, method="L-BFGS-B")
    return found.x / spread ** np.arange(3)


def log_density(grid: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the log of the density of positions at grid points, relative to even."""
    density = np.zeros(len(grid))
    for position in positions:
        squared = np.sum(np.square(grid - position), axis=-1)
        density += np.exp(-squared / (2 * _KERNEL_WIDTH**2))
    return np.log(density / density.mean() + _DENSITY_FLOOR)
