"""Paths of many links as flat arrays, without padding."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class FlatPaths:
    """Paths of all links, one after the other.

    Sorted by source, then target; strongest first within a link.

    Args:
        source: [num_paths], int32. Index of the source.
        target: [num_paths], int32. Index of the target.
        gain: [num_paths], complex64. Amplitude gain, carrier phase included.
        delay: [num_paths], float32. Absolute time of flight in s.
        aod: [num_paths, 2], float32. (zenith, azimuth) at the source in rad.
        aoa: [num_paths, 2], float32. (zenith, azimuth) at the target in rad.
        num_interactions: [num_paths], int32. Reflections and transmissions; 0 for
            line of sight.
    """

    source: np.ndarray
    target: np.ndarray
    gain: np.ndarray
    delay: np.ndarray
    aod: np.ndarray
    aoa: np.ndarray
    num_interactions: np.ndarray

    @classmethod
    def sort(cls, num_targets: int, **columns: np.ndarray) -> "FlatPaths":
        """Return the paths that carry power, sorted by link and strength."""
        power = np.abs(columns["gain"])
        link = columns["source"].astype(np.int64) * num_targets + columns["target"]
        order = np.lexsort((-power, link))
        order = order[power[order] > 0]
        return cls(**{name: values[order] for name, values in columns.items()})

    @classmethod
    def join(cls, pieces: "list[FlatPaths]") -> "FlatPaths":
        """Return pieces, whose sources rise from piece to piece, as one."""
        pieces = pieces or [cls.none()]
        names = [field.name for field in fields(cls)]
        columns = {name: [getattr(piece, name) for piece in pieces] for name in names}
        return cls(**{name: np.concatenate(column) for name, column in columns.items()})

    @classmethod
    def none(cls) -> "FlatPaths":
        """Return no paths, with the right shapes and types."""
        return cls(
            source=np.empty(0, np.int32),
            target=np.empty(0, np.int32),
            gain=np.empty(0, np.complex64),
            delay=np.empty(0, np.float32),
            aod=np.empty((0, 2), np.float32),
            aoa=np.empty((0, 2), np.float32),
            num_interactions=np.empty(0, np.int32),
        )
