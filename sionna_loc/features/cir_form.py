"""What channel impulse responses are: antennas, taps, rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sionna_loc.antennas import PlanarArray


@dataclass(frozen=True)
class CirForm:
    """What the CIRs are of a file, or those that a model was built for.

    Args:
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz].
        bandwidth: float > 0 [Hz].
        array: of the UE.
        synchronised: bool. Whether tap 0 is the time of sending.
        assumed: names of what nobody has said and is only taken for granted, of
            `"bandwidth"` and `"spacing"`, that of the array.
    """

    num_taps: int
    sampling_rate: float
    bandwidth: float
    array: PlanarArray
    synchronised: bool = True
    assumed: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "CirForm":
        """Return the form of a run's `features`, see its `config.json`.

        Raises: KeyError, TypeError or ValueError if they are of another version.
        """
        array = PlanarArray(**config["array"])
        return cls(
            num_taps=int(config["num_taps"]),
            sampling_rate=float(config["sampling_rate"]),
            bandwidth=float(config["bandwidth"]),
            array=array,
            synchronised=bool(config["synchronised"]),
            assumed=tuple(config.get("assumed", ())),
        )

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes, as JSON can hold it."""
        config = {
            "num_taps": self.num_taps,
            "sampling_rate": self.sampling_rate,
            "bandwidth": self.bandwidth,
            "array": self.array.to_dict(),
            "synchronised": self.synchronised,
        }
        return {**config, "assumed": list(self.assumed)} if self.assumed else config

    @property
    def num_ant(self) -> int:
        """Antennas of the UE."""
        return self.array.num_ant

    @property
    def array_shape(self) -> tuple[int, int]:
        """Rows and columns of the UE's antennas."""
        return self.array.num_rows, self.array.num_columns
