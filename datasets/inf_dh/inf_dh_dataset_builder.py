"""Recipe of the stored set of `inf_dh`; README.md says what it holds.

python -m sionna_loc.prepare --scenario inf_dh --data-dir data
"""

from typing import ClassVar

import tensorflow_datasets as tfds

from sionna_loc.data.storage import SampleSetBuilder, SampleSetConfig


class Builder(SampleSetBuilder):
    """Paths of one indoor factory of TR 38.901, without line of sight."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[SampleSetConfig]] = [
        SampleSetConfig(
            name="standard",
            description="The sizes of the VIn-Loc paper.",
            num_train=18_000,
            num_val=1_000,
            num_test=2_000,
        ),
        SampleSetConfig(
            name="moving",
            description="Training on ever new positions instead of a fixed set.",
            options={"num_train": 0},
            num_train=102_400,
            num_val=1_000,
            num_test=2_000,
        ),
        SampleSetConfig(
            name="small",
            description="Few UEs, for smoke runs and tests.",
            options={"small": True},
            num_train=128,
            num_val=32,
            num_test=64,
        ),
    ]
