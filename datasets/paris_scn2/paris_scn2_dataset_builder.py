"""Recipe of the stored set of `paris_scn2`; README.md says what it holds.

python -m sionna_loc.prepare --scenario paris_scn2 --data-dir data
"""

from typing import ClassVar

import tensorflow_datasets as tfds

from sionna_loc.data.storage import SampleSetBuilder, SampleSetConfig


class Builder(SampleSetBuilder):
    """Ray-traced paths, TRPs on roofs and masts of a whole block of Paris."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[SampleSetConfig]] = [
        SampleSetConfig(
            name="standard",
            description="Up to 3 reflections, as the scenario has it.",
            num_train=102_400,
            num_val=1_000,
            num_test=2_000,
        ),
        SampleSetConfig(
            name="depth_1",
            description="Up to 1 reflection.",
            options={"max_depth": 1},
            num_train=102_400,
            num_val=1_000,
            num_test=2_000,
        ),
        SampleSetConfig(
            name="depth_5",
            description="Up to 5 reflections.",
            options={"max_depth": 5},
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
