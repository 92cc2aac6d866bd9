"""A site of which only measurements are known, no map."""

from typing import Any

import numpy as np

from sionna_loc.places.sionna_scene import TopView


class MeasuredSite:
    """An empty map.

    Args:
        region: [2, 3], float [m]. Box of what figures show.
    """

    def __init__(self, region: Any) -> None:
        self.region = np.asarray(region, dtype=np.float64)

    def top_view(self) -> TopView:
        """Return the region from above, with nothing in it."""
        (west, south, _), (east, north, _) = self.region
        return TopView(np.zeros((1, 1), np.float32), (west, east, south, north))
