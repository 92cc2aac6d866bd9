"""What multilateration learns about ranges and UEs from samples of a scenario."""

import numpy as np

_KERNEL_WIDTH = 10.0  # of the density of UEs [m]
_DENSITY_FLOOR = 1e-3  # of the mean density, where no UE was seen


def fit_log_odds(x: np.ndarray, is_true: np.ndarray) -> np.ndarray:
    """Fit log-odds `a + b x + c x^2` of `is_true` by Newton's method."""
    spread = max(float(np.std(x)), 1e-3)
    z = np.clip(x / spread, -4, 4)
    features = np.stack([np.ones_like(z), z, z**2], axis=-1).astype("float64")
    beta = np.zeros(3)
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(features @ beta, -30, 30)))
        curvature = (features * (p * (1 - p))[:, None]).T @ features
        gradient = features.T @ (is_true - p) - 1e-2 * beta
        beta = beta + np.linalg.solve(curvature + 1e-2 * np.eye(3), gradient)
    return beta / spread ** np.arange(3)


def log_density(grid: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the log of the density of positions at grid points, relative to even."""
    density = np.zeros(len(grid))
    for position in positions:
        squared = np.sum(np.square(grid - position), axis=-1)
        density += np.exp(-squared / (2 * _KERNEL_WIDTH**2))
    return np.log(density / density.mean() + _DENSITY_FLOOR)
