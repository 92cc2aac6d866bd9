"""Preset files: sizes of a model and how to train it, as a search found them."""

import json
from pathlib import Path
from typing import Any

from sionna_loc.checks import UserError, check

SUFFIX = ".json"
_FIELDS = {
    "model": str,
    "preset": str,
    "recipe": str,
    "model_options": dict,
    "batch_size": int,
    "learning_rate": float,
    "emphasis": float,
}
_FOUND = "found"


def write_preset(path: Path, values: dict[str, Any], found: dict[str, Any]) -> None:
    """Write a preset file.

    Args:
        path: of the file, `.json`.
        values: fields of `RunConfig`: those of `_FIELDS`, or some of them.
        found: how the values were found, for people.
    """
    text = json.dumps({**values, _FOUND: found}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def expand_preset(given: dict[str, Any]) -> dict[str, Any]:
    """Return fields of `RunConfig`, with a preset file replaced by what it holds.

    What is given besides wins over the file, option by option for those of the model.

    Args:
        given: fields of `RunConfig`; `preset` may be the name of a `.json` file.

    Raises: UserError if the file cannot be read or is no preset.
    """
    name = given.get("preset")
    if name is None or not str(name).endswith(SUFFIX):
        return given
    values = _read_preset(Path(name))
    rest = {key: value for key, value in given.items() if key != "preset"}
    options = {**values.get("model_options", {}), **rest.get("model_options", {})}
    return {**values, **rest, "model_options": options}


def _read_preset(path: Path) -> dict[str, Any]:
    """Return the fields of a preset file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"The preset file cannot be read: {error}. Received: preset={str(path)!r}."
        ) from error
    check(isinstance(values, dict), "That is no preset file.", preset=str(path))
    values.pop(_FOUND, None)
    for name, value in values.items():
        kind = _FIELDS.get(name)
        if kind is float and type(value) is int:  # as people write it
            value = values[name] = float(value)
        check(
            kind is not None and isinstance(value, kind),
            "A preset file holds some of "
            f"{', '.join(f'{k} ({t.__name__})' for k, t in _FIELDS.items())}.",
            preset=str(path),
            **{name: value},
        )
    return values
