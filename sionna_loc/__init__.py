"""Train neural networks that find a user's position, natively on Sionna."""

import importlib
from typing import Any

__version__ = "0.1.0.dev0"

_PUBLIC = {
    "RunConfig": "sionna_loc.training",
    "fit": "sionna_loc.training",
    "get_scenario": "sionna_loc.registry",
    "load_model": "sionna_loc.saving",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*globals(), *_PUBLIC])
