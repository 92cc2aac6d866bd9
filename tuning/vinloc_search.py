"""Search sizes and training of VIn-Loc with KerasTuner.

    python tuning/vinloc_search.py --scenario paris_scn1 --tuner bayesian \
        --max-trials 20 --steps 2000 --directory runs/vinloc_search
    python -m sionna_loc.train --preset runs/vinloc_search/preset.json

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
    """Return what is searched, as fields of `RunConfig`."""
    width = hp.Choice("unet_width", [16, 32, 48, 64], default=32)
    training = {}
    if not scenario.num_train:  # a set of fixed size is trained on as it is
        training["emphasis"] = hp.Choice("emphasis", [0.0, 1.5, 3.0], default=1.5)
    return {
        **training,
        "learning_rate": hp.Float(
            "learning_rate", 5e-4, 4e-3, sampling="log", default=1.5e-3
        ),
        "batch_size": hp.Choice("batch_size", [32, 64, 128], default=64),
        "model_options": {
            "unet_filters": [width] * 5,
            "unet_fold": hp.Choice("unet_fold", [4, 8, 16], default=8),
            "cir_units": hp.Choice("cir_units", [64, 96, 160], default=96),
            "num_blocks": hp.Int("num_blocks", 1, 4, default=3),
            "mlp_units": hp.Choice("mlp_units", [256, 512, 1024], default=512),
            "refiner_units": hp.Choice("refiner_units", [64, 128], default=128),
            "refiner_blocks": hp.Int("refiner_blocks", 1, 2, default=1),
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and search; return the exit code."""
    return localizer_search.main("vinloc", space, __doc__, argv)


if __name__ == "__main__":
    cli.run(main, "python tuning/vinloc_search.py")
