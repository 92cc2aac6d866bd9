"""The data contract: what one sample is made of.

A sample is one UE and the TRPs that it hears, as propagation paths. `FIELDS` is
the only place that says which fields there are; the element specs of streams, the
features of stored sets and the tests derive from it.

Where UEs are on tracks, a model may look at a window: a sample with those just before
it on the same track, see `data.tracks`. Each of them is of this form; which they are
follows from the order of the samples, by `Scenario.track_lengths`.

Sizes: T = number of TRPs heard, which varies from sample to sample; P = most paths
per link, fixed per scenario, strongest first, unused entries 0.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FieldSpec:
    """One field of a sample.

    Args:
        shape: sizes, each an int or one of the names `"T"` and `"P"`.
        dtype: NumPy dtype name.
        unit: SI unit, empty for none.
        meaning: what the values are.
    """

    shape: tuple[int | str, ...]
    dtype: str
    unit: str
    meaning: str

    @property
    def is_per_trp(self) -> bool:
        """Whether the first axis counts the TRPs of the sample."""
        return bool(self.shape) and self.shape[0] == "T"

    def element_shape(self, num_paths: int) -> tuple[int | None, ...]:
        """Return the shape of one sample's value, `None` for the number of TRPs."""
        sizes = {"T": None, "P": num_paths}
        return tuple(sizes.get(size, size) for size in self.shape)

    @property
    def numpy_dtype(self) -> np.dtype:
        """The dtype as NumPy's."""
        return np.dtype(self.dtype)


SPLITS = ("train", "validation", "test")
"""Sets that a scenario has samples of."""
FIELDS: dict[str, FieldSpec] = {
    "trp_position": FieldSpec(("T", 3), "float32", "m", "where the TRPs stand"),
    "path_gain": FieldSpec(
        ("T", "P"), "complex64", "", "amplitude gain, carrier phase included"
    ),
    "path_delay": FieldSpec(("T", "P"), "float32", "s", "absolute time of flight"),
    "path_aoa": FieldSpec(
        ("T", "P", 2), "float32", "rad", "(zenith, azimuth) at the receiving end"
    ),
    "path_aod": FieldSpec(
        ("T", "P", 2), "float32", "rad", "(zenith, azimuth) at the transmitting end"
    ),
    "num_paths": FieldSpec(("T",), "int32", "", "paths of the link that exist"),
    "los": FieldSpec(("T",), "bool", "", "line of sight; for analysis, no feature"),
    "ue_position": FieldSpec((3,), "float32", "m", "where the UE stands: the target"),
}
