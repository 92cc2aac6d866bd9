"""The figure of `indoor_factory_calibration.py`: ours drawn through, others dashed."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Links = dict[str, np.ndarray]

_COLOURS = {"sl": "#0072B2", "dl": "#D55E00", "sh": "#009E73", "dh": "#AA4499"}
_DASHED = {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 0.9}
_EXCESS_MOMENTS = (-7.5, 0.4)
"""Of lg(excess delay / s), TR 38.901, Table 7.6.9-1."""
_FEWEST_LINKS = 50
"""A share of fewer links is not drawn."""
_SHOWN_PERCENTILES = (0.0, 99.9)


def draw_figure(ours: dict[str, Links], theirs: dict[str, Links], path: Path) -> None:
    """Draw six panels, one line for each sub-scenario.

    Args:
        ours: links of each sub-scenario, drawn through.
        theirs: links of each sub-scenario, drawn dashed; may be empty.
        path: PNG file.
    """
    figure = Figure(figsize=(9.0, 5.4), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    _draw_cdf(axes[0], ours, theirs, _best, "Coupling loss to the best TRP [dB]")
    _draw_cdf(axes[1], ours, theirs, _coupling, "Coupling loss of all links [dB]")
    _draw_sight(axes[2], ours, theirs)
    _draw_cdf(axes[3], ours, theirs, _delay_spread, "Delay spread, NLOS [ns]")
    _draw_cdf(axes[4], ours, theirs, _arrival_spread, "Azimuth spread at UE, NLOS [°]")
    _draw_cdf(axes[5], ours, {}, _excess, "Excess delay of first path, NLOS [ns]")
    _draw_table_of_excess(axes[5])
    for axis in (axes[0], axes[3]):
        axis.set_ylabel("Cumulative distribution")
    for axis in (axes[3], axes[5]):
        axis.set_xscale("log")
    axes[3].set_xlim(12, 350)
    axes[5].set_xlim(2, 1000)
    for label, axis in zip("abcdef", axes, strict=True):
        axis.set_title(f"({label})", loc="left", fontsize=9)
        axis.grid(color="0.88", linewidth=0.5)
        axis.set_axisbelow(True)
    figure.legend(
        handles=_legend(bool(theirs)),
        loc="outside upper center",
        ncols=5 + bool(theirs),
        frameon=False,
        fontsize=8.5,
    )
    figure.savefig(path, dpi=200)


def _draw_cdf(axes: Axes, ours: dict, theirs: dict, values_of, label: str) -> None:
    """Draw distributions of what `values_of` takes from links."""
    for links, style in ((ours, {"linewidth": 1.8}), (theirs, _DASHED)):
        for name, part in links.items():
            values = np.sort(values_of(part))
            # Enough points for a smooth line, whatever the number of links.
            share = np.linspace(*np.array(_SHOWN_PERCENTILES) / 100, 800)
            axes.plot(
                np.quantile(values, share), share, **{"color": _COLOURS[name], **style}
            )
    axes.set_ylim(0, 1)
    axes.set_xlabel(label)


def _draw_sight(axes: Axes, ours: dict, theirs: dict) -> None:
    """Draw the share of links with line of sight over the distance."""
    edges = np.geomspace(1.0, 300.0, 25)
    middle = np.sqrt(edges[1:] * edges[:-1])
    for links, style in ((ours, {"linewidth": 1.8}), (theirs, _DASHED)):
        for name, part in links.items():
            where = np.digitize(part["distance"].ravel(), edges) - 1
            inside = (where >= 0) & (where < len(middle))
            count, seen = (
                np.bincount(where[inside], weights, len(middle))
                for weights in (None, part["los"].ravel()[inside])
            )
            share = np.where(count >= _FEWEST_LINKS, seen / np.maximum(count, 1), None)
            axes.plot(middle, share.astype(float), **{"color": _COLOURS[name], **style})
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("Horizontal distance [m]")
    axes.set_ylabel("Share of links in line of sight")


def _draw_table_of_excess(axes: Axes) -> None:
    """Draw the distribution that Table 7.6.9-1 gives."""
    mean, spread = _EXCESS_MOMENTS
    exponent = np.linspace(mean - 4 * spread, mean + 4 * spread, 200)
    scaled = (exponent - mean) / (spread * math.sqrt(2))
    share = [0.5 + 0.5 * math.erf(value) for value in scaled]
    axes.plot(10**exponent * 1e9, share, color="0.45", linestyle=":", linewidth=1.6)


def _legend(has_reference: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, linewidth=1.8, label=f"InF-{name.upper()}")
        for name, colour in _COLOURS.items()
    ]
    if has_reference:
        handles.append(Line2D([], [], **_DASHED, label="Sionna 2.2"))
    dotted = {"color": "0.45", "linestyle": ":", "linewidth": 1.6}
    return [*handles, Line2D([], [], **dotted, label="Table 7.6.9-1 (f)")]


def _best(links: Links) -> np.ndarray:
    return links["coupling_loss"].min(axis=1)


def _coupling(links: Links) -> np.ndarray:
    return links["coupling_loss"].ravel()


def _delay_spread(links: Links) -> np.ndarray:
    return links["delay_spread"][~links["los"]] * 1e9


def _arrival_spread(links: Links) -> np.ndarray:
    return links["asa"][~links["los"]]


def _excess(links: Links) -> np.ndarray:
    return links["excess_delay"][~links["los"]] * 1e9
