"""What experiments leave behind: records as JSON and CSV, a figure, a table as text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sionna_loc import saving
from sionna_loc.checks import make_writable


def prepare(output: Path) -> None:
    """Make the folder of an experiment.

    Raises: UserError if it cannot be written.
    """
    make_writable("The results", output)


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


def write_results(
    output: Path, name: str, results: Sequence[Mapping[str, Any]]
) -> None:
    """Write results in the form that all experiments share, as `results.json`.

    Several figures may share the folder: results of others stay.

    Args:
        output: folder.
        name: of the figure; its rows are called so, or begin so, with a colon.
        results: each with `row`, `label`, `model`, `trp_positions`, `paper`, `ours`,
            `seeds` and `command`, see `trials.to_result`.

    Raises: UserError if the file is there and damaged.
    """
    path = output / "results.json"
    others = [
        result
        for result in (saving.read_list(path) if path.exists() else [])
        if result["row"].partition(":")[0] != name
    ]
    saving.write_json(path, [*others, *results])


def mean_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of metrics over seeds, or whatever else there are several of.

    Args:
        metrics: dicts with the same metrics, `mae` among them, see
            `metrics.position_metrics`.

    Returns: each metric; `mean`, the mean distance; and `per_seed`, what they are of.
    """
    names = [name for name, value in metrics[0].items() if isinstance(value, float)]
    means = {name: sum(one[name] for one in metrics) / len(metrics) for name in names}
    per_seed = [{name: one[name] for name in names} for one in metrics]
    return {**means, "mean": means["mae"], "per_seed": per_seed}


def text_table(title: str, rows: Sequence[Sequence[str]], num_names: int = 1) -> str:
    """Return rows as a table, the first columns to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<"] * num_names + [">"] * (len(widths) - num_names)
    lines = [
        "  ".join(
            f"{cell:{s}{w}}" for cell, s, w in zip(row, sides, widths, strict=True)
        )
        for row in rows
    ]
    return "\n".join([title, *(line.rstrip() for line in lines)])
