"""Recipe of the stored set of `madrid`; README.md says what it holds.

python -m sionna_loc.prepare --scenario madrid --data-dir data
"""

from typing import ClassVar

import tensorflow_datasets as tfds

from sionna_loc.data.storage import SampleSetBuilder, SampleSetConfig


class Builder(SampleSetBuilder):
    """Paths between vehicles on the Madrid grid and 18 gNBs at 28 GHz."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[SampleSetConfig]] = [
        SampleSetConfig(
            name="standard",
            description="All tracks: 32 to train, 4 to validate, 4 to test.",
            num_train=22_784,
            num_val=2_848,
            num_test=2_848,
        ),
        SampleSetConfig(
            name="small",
            description="Few and short tracks, for smoke runs and tests.",
            options={"small": True},
            num_train=128,
            num_val=32,
            num_test=64,
        ),
    ]
