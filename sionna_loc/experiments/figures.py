"""Figures of experiments: models beside each other, and under changing conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from sionna_loc.checks import check
from sionna_loc.plotting import (
    COLORS,
    STYLE,
    draw_place,
    history_panels,
    plain_number,
)

_MARGIN = 15.0  # around what a map shows [m]
_VALIDATION = {
    "val_rmse": ("RMSE", "-"),
    "val_mae": ("mean", "--"),
    "val_p50": ("median", ":"),
}

_MOST_LETTERS = 45  # of labels, for a legend of six columns


def training_comparison(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
) -> Figure:
    """Draw the validation errors of trainings, a colour each.

    Args:
        histories: label -> rows of the training's `history.csv`.
    """
    check(len(histories) > 0, "There must be a history to draw.", number=0)
    colors = {label: f"C{index}" for index, label in enumerate(histories)}
    colors |= dict(zip(histories, COLORS, strict=False))
    lines = [
        (history, name, {"color": colors[label], "linestyle": style})
        for label, history in histories.items()
        for name, (_, style) in _VALIDATION.items()
    ]
    figure = history_panels(lines, "Horizontal error, validation [m]")
    handles = [Line2D([], [], color=c, label=label) for label, c in colors.items()]
    handles += [
        Line2D([], [], color="0.25", linestyle=style, label=text)
        for text, style in _VALIDATION.values()
    ]
    with matplotlib.rc_context(STYLE):
        is_wide = sum(map(len, histories)) > _MOST_LETTERS
        columns = min(3 if is_wide else 6, len(handles))
        figure.legend(handles=handles, loc="outside upper center", ncols=columns)
    return figure


def metric_comparison(
    results: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Figure:
    """Draw metrics of several models beside those of a paper, a panel for each row.

    Args:
        results: of an experiment, in the order to draw them; each has `row`, `label`,
            `ours` with the metrics and their `intervals`, and `paper` [m].
        names: metrics to draw, e.g. `("rmse", "p90")`.
    """
    check(len(results) > 0, "There must be a result to draw.", number=0)
    rows = list(dict.fromkeys(result["row"] for result in results))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.5 * len(rows), 2.8), layout="constrained")
        panels = figure.subplots(1, len(rows), squeeze=False)[0]
        for row, axes in zip(rows, panels, strict=True):
            chosen = [result for result in results if result["row"] == row]
            for name, color in zip(names, COLORS, strict=False):
                _draw_metric(axes, chosen, name, color)
            axes.set_yticks(range(len(chosen)), [result["label"] for result in chosen])
            axes.invert_yaxis()
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(plain_number)
            axes.set_xlabel("Horizontal error [m]")
            axes.set_title(row)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure


def _draw_metric(
    axes: Axes, results: Sequence[Mapping[str, Any]], name: str, color: str
) -> None:
    """Draw ours as dots with intervals, the paper's as crosses."""
    ours = np.array([result["ours"][name] for result in results])
    bounds = np.array([result["ours"]["intervals"][name] for result in results])
    paper = [result["paper"].get(name, np.nan) for result in results]
    lengths = np.abs(bounds.T - ours)
    places = np.arange(len(results))
    style = {"fmt": "o", "markersize": 3.5, "capsize": 2, "elinewidth": 0.8}
    axes.errorbar(ours, places, xerr=lengths, color=color, label=name, **style)
    axes.plot(paper, places, "x", color=color, markersize=5, label=f"{name}, paper")


def condition_sweeps(lines: Sequence[Mapping[str, Any]], metric: str) -> Figure:
    """Draw a metric of several models against what changes, a panel for each sweep.

    Args:
        lines: each with `sweep`, `setting` (text), `label` of the model, and the
            metrics [m] with their `intervals`; in the order to draw them.
        metric: e.g. `"rmse"`.
    """
    check(len(lines) > 0, "There must be a condition to draw.", number=0)
    sweeps = list(dict.fromkeys(line["sweep"] for line in lines))
    labels = list(dict.fromkeys(line["label"] for line in lines))
    columns = min(3, len(sweeps))
    rows = -(-len(sweeps) // columns)
    with matplotlib.rc_context(STYLE):
        size = (2.4 * columns, 2.0 * rows + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for sweep, axes in zip(sweeps, panels, strict=False):
            chosen = [line for line in lines if line["sweep"] == sweep]
            settings = list(dict.fromkeys(line["setting"] for line in chosen))
            for label, color in zip(labels, COLORS, strict=False):
                own = [line for line in chosen if line["label"] == label]
                _draw_sweep(axes, own, settings, metric, label, color)
            axes.set_xticks(range(len(settings)), settings)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(plain_number)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_title(sweep)
        for axes in panels[len(sweeps) :]:
            axes.set_axis_off()
        for axes in panels[::columns]:
            axes.set_ylabel(f"{metric} [m]")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return figure


def _draw_sweep(
    axes: Axes,
    lines: Sequence[Mapping[str, Any]],
    settings: Sequence[str],
    metric: str,
    label: str,
    color: str,
) -> None:
    """Draw one model's line with its intervals."""
    places = [settings.index(line["setting"]) for line in lines]
    values = np.array([line[metric] for line in lines])
    bounds = np.array([line["intervals"][metric] for line in lines]).reshape(-1, 2)
    style = {"fmt": "o-", "markersize": 3, "capsize": 2, "elinewidth": 0.8}
    lengths = np.abs(bounds.T - values)
    axes.errorbar(places, values, yerr=lengths, color=color, label=label, **style)


def power_map(
    top_view: Any,
    ue_position: np.ndarray,
    power_dbm: np.ndarray,
    trp_position: np.ndarray,
    source: int,
    active: Sequence[int],
) -> Figure:
    """Draw a place from above, its TRPs, and how strongly UEs hear one of them.

    Args:
        top_view: the place from above, `places.sionna_scene.TopView`.
        ue_position: [num_ues, 3] [m].
        power_dbm: [num_ues]. Received power.
        trp_position: [num_trps, 3] [m].
        source: index of the TRP that is heard.
        active: indices of TRPs to mark with a cross.
    """
    check(len(ue_position) > 0, "Nothing is heard of the TRP.", source=source)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(3.5, 3.9), layout="constrained")
        axes = figure.subplots()
        draw_place(axes, top_view)
        order = np.argsort(power_dbm)  # the strongest on top
        x, y = ue_position[order, :2].T
        points = axes.scatter(x, y, 2, power_dbm[order], lw=0, cmap="viridis")
        bar = figure.colorbar(points, ax=axes, shrink=0.8, pad=0.02)
        bar.set_label("Received power [dBm]")
        bar.outline.set_linewidth(0.4)
        x, y = trp_position[:, :2].T
        axes.plot(x, y, "s", color=COLORS[1], markersize=4, label="gNB")
        style = {"color": "black", "markersize": 6, "markeredgewidth": 1.2}
        axes.plot(x[active], y[active], "x", label="active", **style)
        ring = {"mfc": "none", "mec": COLORS[0], "markersize": 9}
        axes.plot(x[[source]], y[[source]], "o", label="power shown", **ring)
        shown = np.concatenate([ue_position, trp_position])[:, :2]
        low, high = shown.min(axis=0) - _MARGIN, shown.max(axis=0) + _MARGIN
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set(xlabel="x [m]", ylabel="y [m]")
        figure.legend(loc="outside upper center", ncols=3)
    return figure


@dataclass(frozen=True)
class AngleDelayImage:
    """A channel over antennas, over beams and over azimuths, each against the delay.

    Attributes:
        antennas: [num_ant, num_taps]. Magnitude of each tap.
        beams: [num_ant, num_taps]. The same behind `AngleDelay`.
        azimuths: [num_azimuths, num_taps]. The same of a beam that turns.
        beam_directions: [num_ant, 2]. (Zenith, azimuth) of the beams [degrees], NaN
            for none.
        azimuth: [num_azimuths]. Of the turning beam [degrees], rising.
        zenith: float. Of the turning beam [degrees].
        delay: [num_taps] [ns].
        path_delay: [num_paths] [ns], strongest first.
        path_azimuth: [num_paths] [degrees].
    """

    antennas: np.ndarray
    beams: np.ndarray
    azimuths: np.ndarray
    beam_directions: np.ndarray
    azimuth: np.ndarray
    zenith: float
    delay: np.ndarray
    path_delay: np.ndarray
    path_azimuth: np.ndarray


def angle_delay_figure(image: AngleDelayImage, range_db: float = 30.0) -> Figure:
    """Draw a channel of an array as the network takes it, and as an angle spectrum.

    Args:
        image: what to draw; delays only where there are paths.
        range_db: float > 0 [dB]. From the strongest value of each panel to black.
    """
    step = float(image.delay[1] - image.delay[0])
    first = max(float(image.path_delay.min()) - 8 * step, 0.0)
    last = min(float(image.path_delay.max()) + 8 * step, float(image.delay[-1]))
    shown = (image.delay >= first) & (image.delay <= last)
    side = [image.delay[shown][0] - step / 2, image.delay[shown][-1] + step / 2]
    count = len(image.antennas)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(7.2, 2.5), layout="constrained")
        raw, beams, turning = figure.subplots(1, 3)
        heights = [-0.5, count - 0.5]
        turns = [float(image.azimuth[0]), float(image.azimuth[-1])]
        for axes, values, height in (
            (raw, image.antennas, heights),
            (beams, image.beams, heights),
            (turning, image.azimuths, turns),
        ):
            values = values[:, shown]
            level = 20 * np.log10(np.maximum(values / values.max(), 1e-6))
            drawn = axes.imshow(
                level,
                extent=(*side, *height),
                origin="lower",
                aspect="auto",
                vmin=-range_db,
                vmax=0.0,
                cmap="magma",
                interpolation="nearest",
            )
            axes.set_xlabel("Time of flight [ns]")
        raw.set(ylabel="Antenna", yticks=range(count))
        raw.set_title("antennas x taps")
        names = [
            "none" if np.isnan(zenith) else f"{zenith:.0f}, {azimuth:.0f}"
            for zenith, azimuth in image.beam_directions
        ]
        beams.set_yticks(range(count), names)
        beams.set(ylabel="Beam: zenith, azimuth [deg]")
        beams.set_title("AoA-ToF, as VIn-Loc takes it")
        ring = {"mfc": "none", "mec": "white", "markersize": 7}
        turning.plot(image.path_delay, image.path_azimuth, "o", **ring)
        turning.set(ylabel="Azimuth of arrival [deg]", xlim=side, ylim=turns)
        turning.set_yticks([-180, -90, 0, 90, 180])
        turning.set_title(f"beam at zenith {image.zenith:.0f}; rings: paths")
        bar = figure.colorbar(drawn, ax=turning, pad=0.02)
        bar.set_label("[dB]")
        bar.outline.set_linewidth(0.4)
    return figure
