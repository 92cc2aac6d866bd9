"""Recipe of the stored set of `cities`; README.md says what it holds.

python -m sionna_loc.prepare --scenario cities --data-dir data
"""

from typing import ClassVar

import tensorflow_datasets as tfds

from sionna_loc.data.storage import SampleSetBuilder, SampleSetConfig


class Builder(SampleSetBuilder):
    """Ray-traced paths in streets of several cities, tested in one never trained."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[SampleSetConfig]] = [
        SampleSetConfig(
            name="standard",
            description="Trained in three cities, tested in San Francisco.",
            num_train=102_400,
            num_val=1_000,
            num_test=2_000,
        ),
        SampleSetConfig(
            name="held_out",
            description="The same, tested in blocks held out of the three cities.",
            options={"test_place": "held_out"},
            num_train=102_400,
            num_val=1_000,
            num_test=2_000,
        ),
        SampleSetConfig(
            name="small",
            description="Few sites and UEs, for smoke runs and tests.",
            options={"small": True},
            num_train=256,
            num_val=32,
            num_test=64,
        ),
    ]
