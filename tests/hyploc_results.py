"""Made-up results of trials: what tests of tables and figures show."""

from pathlib import Path

from sionna_loc.experiments.trials import to_result


def make_result(trial, means):
    """A result whose seeds have these mean errors."""
    metrics = [
        {
            **{name: factor * mean for name, factor in (("rmse", 2), ("mae", 1))},
            **{"p50": mean / 2, "p90": 3 * mean, "num_samples": 5},
            "intervals": {
                name: [0.9 * mean, 1.2 * mean] for name in ("rmse", "mae", "p50", "p90")
            },
        }
        for mean in means
    ]
    return to_result(trial, metrics, Path("out"))
