"""What is measured of links besides their delay."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LinkForm:
    """What the link measurements are of a file, or those that a model was trained on.

    Args:
        power: bool. Whether there are received powers.
        aoa: bool. Whether there are directions.
    """

    power: bool = True
    aoa: bool = True

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, as JSON can hold them."""
        return {"power": self.power, "aoa": self.aoa}
