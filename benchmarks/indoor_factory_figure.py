"""The figure of `indoor_factory_calibration.py`: ours drawn through, others dashed."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Links = dict[str, np.ndarray]

_COLOURS = {"sl": "#0072B2", "dl": "#D55E00", "sh": "#009E73", "dh": "#AA4499"}
_THROUGH = {"linewidth": 2.2}
_DASHED = {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 0.9}
_DOTTED = {"color": "black", "linestyle": ":", "linewidth": 1.5}
_ANGLES = {"zsd": "ZSD", "zsa": "ZSA", "asd": "ASD", "asa": "ASA"}
_ANGLES_OF = "dh"
_ANGLE_LABELS_AT = ((9, 0.66), (26, 0.43), (69, 0.8), (79, 0.6))
_EXCESS_MOMENTS = (-7.5, 0.4)
"""Of lg(excess delay / s), TR 38.901, Table 7.6.9-1."""
_FEWEST_LINKS = 100
"""A share of fewer links is not drawn."""
_LARGEST_SHARE = 0.999


def draw_figure(ours: dict[str, Links], theirs: dict[str, Links], path: Path) -> None:
    """Draw six panels, one line for each sub-scenario.

    Args:
        ours: links of each sub-scenario, drawn through.
        theirs: links of each sub-scenario, drawn dashed; may be empty.
        path: PNG file.
    """
    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    both = ours, theirs
    _draw_cdf(axes[0], *both, _best, "Coupling loss to the best TRP [dB]")
    _draw_cdf(axes[1], *both, _coupling, "Coupling loss of all links [dB]")
    _draw_sight(axes[2], *both)
    _draw_cdf(axes[3], *both, _delay_spread, "Delay spread, NLOS [ns]")
    _draw_angles(axes[4], *both)
    _draw_cdf(axes[5], ours, {}, _excess, "Excess delay, NLOS [ns]")
    _draw_table_of_excess(axes[5])
    _set_log(axes[2], (3, 300), (3, 10, 30, 100, 300))
    _set_log(axes[3], (12, 300), (20, 50, 100, 200))
    _set_log(axes[5], (2, 800), (3, 10, 30, 100, 300))
    for axis in (axes[0], axes[3]):
        axis.set_ylabel("Cumulative distribution")
    for label, axis in zip("abcdef", axes, strict=True):
        axis.set_title(f"({label})", loc="left", fontsize=9)
        axis.grid(color="0.88", linewidth=0.5)
        axis.set_axisbelow(True)
        axis.set_ylim(0, 1)
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
    for links, style in ((ours, _THROUGH), (theirs, _DASHED)):
        for name, part in links.items():
            _draw_line(axes, values_of(part), {"color": _COLOURS[name], **style})
    axes.set_xlabel(label)


def _draw_line(axes: Axes, values: np.ndarray, style: dict) -> None:
    """Draw one distribution, by enough points for a smooth line."""
    share = np.linspace(0, _LARGEST_SHARE, 800)
    axes.plot(np.quantile(values, share), share, **style)


def _draw_angles(axes: Axes, ours: dict, theirs: dict) -> None:
    """Draw the four spreads of angles of one sub-scenario; they are those of all."""
    for (name, label), (x, y) in zip(_ANGLES.items(), _ANGLE_LABELS_AT, strict=True):
        for links, style in ((ours, {**_THROUGH, "color": "0.6"}), (theirs, _DASHED)):
            if links:
                part = links[_ANGLES_OF]
                _draw_line(axes, part[name][~part["los"]], style)
        axes.text(x, y, label, fontsize=8, ha="center", va="center")
    axes.set_xlim(0, 140)
    axes.set_xlabel(f"Spread of angles, NLOS, InF-{_ANGLES_OF.upper()} [°]")


def _draw_sight(axes: Axes, ours: dict, theirs: dict) -> None:
    """Draw the share of links with line of sight over the distance."""
    edges = np.geomspace(1.0, 300.0, 19)
    middle = np.sqrt(edges[1:] * edges[:-1])
    for links, value, style in (
        (ours, "los_probability", _DOTTED),
        (ours, "los", _THROUGH),
        (theirs, "los", _DASHED),
    ):
        for name, part in links.items():
            where = np.digitize(part["distance"].ravel(), edges) - 1
            inside = (where >= 0) & (where < len(middle))
            count, seen = (
                np.bincount(where[inside], weights, len(middle))
                for weights in (None, part[value].ravel()[inside])
            )
            shown = count >= _FEWEST_LINKS
            axes.plot(
                middle[shown],
                seen[shown] / count[shown],
                **{"color": _COLOURS[name], **style},
            )
    axes.set_xlabel("Horizontal distance [m]")
    axes.set_ylabel("Share in line of sight")


def _draw_table_of_excess(axes: Axes) -> None:
    """Draw the distribution that Table 7.6.9-1 gives."""
    mean, spread = _EXCESS_MOMENTS
    exponent = np.linspace(mean - 4 * spread, mean + 4 * spread, 200)
    scaled = (exponent - mean) / (spread * math.sqrt(2))
    share = [0.5 + 0.5 * math.erf(value) for value in scaled]
    axes.plot(10**exponent * 1e9, share, **_DOTTED)


def _set_log(axes: Axes, limits: tuple[float, float], ticks: tuple[int, ...]) -> None:
    """Make an axis logarithmic, its ticks plain numbers."""
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()


def _legend(has_reference: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], **_THROUGH, color=colour, label=f"InF-{name.upper()}")
        for name, colour in _COLOURS.items()
    ]
    if has_reference:
        handles.append(Line2D([], [], **_DASHED, label="Sionna 2.2"))
    return [*handles, Line2D([], [], **_DOTTED, label="TR 38.901 (c, f)")]


def _best(links: Links) -> np.ndarray:
    return links["coupling_loss"].min(axis=1)


def _coupling(links: Links) -> np.ndarray:
    return links["coupling_loss"].ravel()


def _delay_spread(links: Links) -> np.ndarray:
    return links["delay_spread"][~links["los"]] * 1e9


def _excess(links: Links) -> np.ndarray:
    return links["excess_delay"][~links["los"]] * 1e9
