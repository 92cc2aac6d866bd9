"""What experiments leave behind: records as JSON and CSV, a figure, a table as text."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sionna_loc import saving
from sionna_loc.checks import check_writable


def prepare(output: Path) -> None:
    """Make the folder of an experiment.

    Raises: UserError if it cannot be written.
    """
    with contextlib.suppress(OSError):  # what is wrong, the check says
        output.mkdir(parents=True, exist_ok=True)
    check_writable("The results", output)


def write(output: Path, name: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records as `<name>.json`, and what of them is plain as `<name>.csv`."""
    saving.write_json(output / f"{name}.json", list(records))
    plain = [
        {
            key: value
            for key, value in record.items()
            if not isinstance(value, list | dict)
        }
        for record in records
    ]
    saving.write_history(output / f"{name}.csv", plain)


def text_table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a table; the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<", *[">"] * (len(widths) - 1)]
    lines = [
        "  ".join(
            f"{cell:{s}{w}}" for cell, s, w in zip(row, sides, widths, strict=True)
        )
        for row in rows
    ]
    return "\n".join([title, *(line.rstrip() for line in lines)])
