"""Search sizes and training of HypLoc with KerasTuner.

    python tuning/hyploc_search.py --tuner bayesian --max-trials 20 --steps 4000 \
        --directory runs/hyploc_search
    python -m sionna_loc.train --scenario madrid --preset runs/hyploc_search/preset.json

Trains each trial with the library's own training and keeps the lowest mean error on the
frozen validation set. The same command goes on with a search that was stopped. The
directory holds `trials.csv`, `trials.png`, `preset.json` and each trial's run folder.
"""

from collections.abc import Sequence
from typing import Any

from sionna_loc import cli

with cli.quiet_imports():
    import sionna_loc.channels  # loads LLVM, before what loads TensorFlow  # noqa: F401

    # isort: split
    import keras_tuner
    import localizer_search

    from sionna_loc.scenarios.base import Scenario


def space(hp: keras_tuner.HyperParameters, scenario: Scenario) -> dict[str, Any]:
    """Return what is searched, as fields of `RunConfig`; the same in all scenarios."""
    hyper_units = [
        hp.Choice("first_hyper_units", [32, 64, 128], default=64),
        hp.Choice("last_hyper_units", [64, 128, 256], default=128),
    ]
    head_units = hp.Choice("head_units", [32, 64, 128], default=32)
    return {
        "learning_rate": hp.Float(
            "learning_rate", 2e-4, 5e-3, sampling="log", default=1e-3
        ),
        "batch_size": hp.Choice("batch_size", [16, 32, 64, 128], default=32),
        "model_options": {
            "main_units": hp.Choice("main_units", [16, 32, 64], default=32),
            "hyper_units": hyper_units,
            "head_units": [head_units] * hp.Int("head_layers", 1, 3, default=2),
            "hyper_activation": hp.Choice(
                "hyper_activation", ["sigmoid", "tanh", "linear"], default="sigmoid"
            ),
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and search; return the exit code."""
    return localizer_search.main("hyploc", space, __doc__, argv, scenario="madrid")


if __name__ == "__main__":
    cli.run(main, "python tuning/hyploc_search.py")
