"""The geometry of paths, as arrays on the host."""

from dataclasses import dataclass, fields

import numpy as np

NOTHING = 0xFFFFFFFF
"""What stands for a shape and a primitive where a path has no interaction."""


@dataclass(frozen=True)
class Chains:
    """Paths, [num_paths] each, with room for [max_depth] interactions.

    Entries beyond a path's depth are 0, of `shape` and `primitive` `NOTHING`.

    Args:
        source, target: int32. Indices of both ends.
        depth: int64. Number of interactions.
        length: float64. Path length in m.
        vertices: [num_paths, max_depth, 3], float32. From source to target, in m.
        normal: [num_paths, max_depth, 3], float32. Of what is hit; of either side.
        passes: [num_paths, max_depth], bool. Vertices where the path passes a wall;
            it is reflected at the others.
        shape, primitive: [num_paths, max_depth], uint32. What is hit at vertices.
    """

    source: np.ndarray
    target: np.ndarray
    depth: np.ndarray
    length: np.ndarray
    vertices: np.ndarray
    normal: np.ndarray
    passes: np.ndarray
    shape: np.ndarray
    primitive: np.ndarray

    @classmethod
    def none(cls, num_paths: int, max_depth: int) -> "Chains":
        """Return paths of length 0, without interactions, to write others into."""
        extent = num_paths, max_depth
        return cls(
            source=np.zeros(num_paths, np.int32),
            target=np.zeros(num_paths, np.int32),
            depth=np.zeros(num_paths, np.int64),
            length=np.zeros(num_paths),
            vertices=np.zeros((*extent, 3), np.float32),
            normal=np.zeros((*extent, 3), np.float32),
            passes=np.zeros(extent, bool),
            shape=np.full(extent, NOTHING, np.uint32),
            primitive=np.full(extent, NOTHING, np.uint32),
        )

    @classmethod
    def join(cls, parts: "list[Chains]", max_depth: int) -> "Chains":
        """Return paths of several depths as one, with room for `max_depth`."""
        joined, start = cls.none(sum(len(part.source) for part in parts), max_depth), 0
        for part in parts:
            stop = start + len(part.source)
            for field in fields(cls):
                values = getattr(part, field.name)
                place = getattr(joined, field.name)[start:stop]
                if values.ndim > 1:
                    place = place[:, : values.shape[1]]
                place[...] = values
            start = stop
        return joined
