"""The factory hall: its size, the lattice of TRPs under its ceiling, where UEs are."""

from dataclasses import asdict, dataclass

import numpy as np

from sionna_loc.checks import check, check_known, check_positive
from sionna_loc.places.sionna_scene import TopView


@dataclass(frozen=True)
class FactoryHall:
    """A rectangular hall, its floor at z = 0 and one corner in the origin.

    The TRPs stand on a square lattice that begins half a spacing from the walls, as
    many as fit; where the hall is no multiple of the spacing, the lattice is centred.

    Args:
        length: float > 0 [m]. Along x.
        width: float > 0 [m]. Along y.
        height: float > 0 [m].
        trp_spacing: float > 0 [m]. Distance between neighbouring TRPs.
        trp_height: float > 0 [m], below the ceiling.
        ue_height: float > 0 [m], below the ceiling.
        ue_margin: float >= 0 [m]. Distance that UEs keep from the walls; with half
            the spacing, they stay within the convex hull of the TRPs.

    Raises: UserError for a size of 0 or less, and for what does not fit in the hall.
    References: TR 38.901, Table 7.8-7, whose InF-DH hall the defaults are.
    """

    length: float = 120.0
    width: float = 60.0
    height: float = 10.0
    trp_spacing: float = 20.0
    trp_height: float = 8.0
    ue_height: float = 1.5
    ue_margin: float = 0.0

    def __post_init__(self) -> None:
        """Check that everything fits in the hall."""
        sizes = asdict(self)
        margin = sizes.pop("ue_margin")
        for name, value in sizes.items():
            check_positive(name, value)
        for name in ("trp_height", "ue_height"):
            below = sizes[name] < self.height
            check(below, f"`{name}` must be below the ceiling.", **{name: sizes[name]})
        shorter = min(self.length, self.width)
        fits = self.trp_spacing <= shorter
        check(fits, "No TRP fits in the hall.", trp_spacing=self.trp_spacing)
        leaves_room = isinstance(margin, int | float) and 0 <= margin < shorter / 2
        check(leaves_room, "`ue_margin` must leave UEs room.", ue_margin=margin)

    @classmethod
    def calibration(cls, sub_scenario: str) -> "FactoryHall":
        """Return the hall in which 3GPP calibrated `"sl"`, `"dl"`, `"sh"` or `"dh"`.

        References: TR 38.901, Table 7.8-7.
        """
        check_known("InF sub-scenario", sub_scenario, ("sl", "dl", "sh", "dh"))
        small = {"length": 120.0, "width": 60.0, "trp_spacing": 20.0}
        large = {"length": 300.0, "width": 150.0, "trp_spacing": 50.0}
        size = small if sub_scenario in ("sl", "dh") else large
        return cls(**size, trp_height=1.5 if sub_scenario[1] == "l" else 8.0)

    @property
    def volume(self) -> float:
        """Volume of the hall [m^3]."""
        return self.length * self.width * self.height

    @property
    def surface(self) -> float:
        """Area of floor, ceiling and walls together [m^2]."""
        floor = self.length * self.width
        walls = (self.length + self.width) * self.height
        return 2 * (floor + walls)

    @property
    def longest_side(self) -> float:
        """The largest of length, width and height [m]."""
        return max(self.length, self.width, self.height)

    @property
    def trp_position(self) -> np.ndarray:
        """Positions of the TRPs, row by row along x, [num_trps, 3], float32 [m]."""
        x = _centred_lattice(self.length, self.trp_spacing)
        y = _centred_lattice(self.width, self.trp_spacing)
        plan = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        height = np.full((len(plan), 1), self.trp_height)
        return np.concatenate([plan, height], axis=1).astype(np.float32)

    @property
    def region(self) -> np.ndarray:
        """Lower and upper corner of the hall, [2, 3] [m]."""
        return np.array([[0.0, 0.0, 0.0], [self.length, self.width, self.height]])

    @property
    def ue_region(self) -> np.ndarray:
        """Lower and upper corner of where UEs are, at their height, [2, 3] [m]."""
        margin = self.ue_margin
        far = [self.length - margin, self.width - margin, self.ue_height]
        return np.array([[margin, margin, self.ue_height], far])

    def contains(self, position: np.ndarray) -> np.ndarray:
        """Say which positions [..., 3] [m] are inside the hall, walls included."""
        lower, upper = self.region
        return ((position >= lower) & (position <= upper)).all(axis=-1)

    def top_view(self, resolution: float = 0.5) -> TopView:
        """Return the floor within a ring of walls one cell of `resolution` m wide."""
        check_positive("resolution", resolution)
        cells = [round(side / resolution) for side in (self.width, self.length)]
        height = np.pad(
            np.zeros(cells, np.float32), 1, constant_values=np.float32(self.height)
        )
        west, south = -resolution, -resolution
        east, north = ((count + 1) * resolution for count in reversed(cells))
        return TopView(height, (west, east, south, north))


def _centred_lattice(side: float, spacing: float) -> np.ndarray:
    """Return as many points as fit on a side, `spacing` apart, centred [m]."""
    count = int(side / spacing + 1e-9)
    return (np.arange(count) - (count - 1) / 2) * spacing + side / 2
