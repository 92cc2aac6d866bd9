"""Tables and figure of `wifi_rtt`, of its results alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sionna_loc.experiments import reports
from sionna_loc.experiments.wifi_rooms import ROOMS
from sionna_loc.plotting import learning_curves, save_figure

NAME = "wifi_rtt"
SET_MODEL = "HypLoc, set"
"""Label of the model that is tested with fewer access points, and in other rooms."""
SHOTS = (1, 5, 20, 100)
"""Scans of the third room to adapt to."""
NUM_TRPS = (5, 4, 3, 2)
"""Access points of a test scan."""


def room_table(
    classical: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]
) -> str:
    """Return the errors of each room."""
    rows = [["", *(room.label for room in ROOMS)]]
    lines = [*classical, *results]
    for label in dict.fromkeys(result["label"] for result in lines):
        by_row = {r["row"]: r["ours"] for r in lines if r["label"] == label}
        cells = [by_row[f"{NAME}:{room.name}"] for room in ROOMS]
        rows.append([label, *(f"{m['rmse']:.2f} / {m['p90']:.2f}" for m in cells)])
    title = "Trained and tested in one room: RMSE / 90th percentile [m]"
    return reports.text_table(title, rows)


def fewer_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the errors with access points dropped."""
    by_row = {result["row"]: result["ours"]["rmse"] for result in results}
    rows = [["", *(f"{count} APs" for count in NUM_TRPS)]]
    for room in ROOMS:
        names = [f"{NAME}:{room.name}, {count} APs" for count in NUM_TRPS]
        cells = [f"{by_row[name]:.2f}" if name in by_row else "" for name in names]
        rows.append([room.label, *cells])
    title = f"{SET_MODEL}, other access points dropped for each test scan: RMSE [m]"
    return reports.text_table(title, rows)


def shots_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the errors in a room that was not trained on."""
    by_row = {result["row"]: result["ours"]["rmse"] for result in results}
    rows = [["", *(f"{count} scans" for count in (0, *SHOTS))]]
    for room in ROOMS:
        names = [f"{NAME}:without {room.name}, {n} scans" for n in (0, *SHOTS)]
        cells = [f"{by_row[name]:.2f}" if name in by_row else "" for name in names]
        rows.append([room.label, *cells])
    title = f"{SET_MODEL} trained in the two other rooms, adapted to scans: RMSE [m]"
    return reports.text_table(title, rows)


def draw_shots(results: Sequence[dict[str, Any]], output: Path) -> None:
    """Draw the errors by scans to adapt to."""
    curves = {}
    for room in ROOMS:
        start = f"{NAME}:without {room.name}, "
        curves[room.label] = [
            (
                float(result["row"].removeprefix(start).split()[0]),
                result["ours"]["rmse"],
            )
            for result in results
            if result["row"].startswith(start)
        ]
    shown = {label: points[1:] for label, points in curves.items()}
    figure = learning_curves(shown, "Scans to adapt to", log_x=True, ylabel="RMSE [m]")
    save_figure(figure, output / "shots")


def flat(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result as a row of a table."""
    names = ("rmse", "mae", "p50", "p90", "p95")
    errors = {name: result["ours"][name] for name in names}
    return {"row": result["row"], "label": result["label"], **errors}
