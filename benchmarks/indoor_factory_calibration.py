"""What do the channels of the indoor factory look like, next to the tables?

    python benchmarks/indoor_factory_calibration.py --figure calibration.png

Halls, clutter and TRPs of 3GPP's calibration (TR 38.901, Table 7.8-7) at 3.5 GHz, line
of sight drawn, several factories each, UEs all over the floor with one isotropic
antenna. Printed as a table and drawn as distributions are

* the coupling loss to the best TRP of a UE,
* the delay spread of links without line of sight,
* by how much the first path of such a link is later than the direct way.

The last two stand beside what Tables 7.5-6 and 7.6.9-1 give.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

_PERCENTILES = (5, 50, 95)
_LABELS = {
    "coupling_loss": "coupling loss to the best TRP [dB]",
    "delay_spread": "delay spread, NLOS [ns]",
    "excess_delay": "excess delay of the first path, NLOS [ns]",
}


def draw(sub_scenario: str, num_ues: int, num_factories: int) -> dict[str, Any]:
    """Return samples of what `_LABELS` names, for one sub-scenario."""
    import tensorflow as tf

    from sionna_loc.channels.indoor_factory import IndoorFactory
    from sionna_loc.constants import SPEED_OF_LIGHT
    from sionna_loc.places.factory_hall import FactoryHall

    hall = FactoryHall.calibration(sub_scenario)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in _LABELS}
    for seed in range(num_factories):
        channel = IndoorFactory(
            hall, sub_scenario=sub_scenario, seed=seed, line_of_sight="drawn"
        )
        generator = np.random.default_rng(seed)
        ues = generator.uniform(*hall.ue_region, (num_ues, 3)).astype(np.float32)
        paths = channel(tf.constant(hall.trp_position), tf.constant(ues), (0, 0))
        power = np.abs(paths["path_gain"].numpy().astype(np.complex128)) ** 2
        delay = paths["path_delay"].numpy().astype(np.float64)
        nlos = ~paths["los"].numpy()
        total = power.sum(axis=-1)
        mean = (power * delay).sum(axis=-1) / total
        variance = (power * (delay - mean[..., None]) ** 2).sum(axis=-1) / total
        first = np.where(power > 0, delay, np.inf).min(axis=-1)
        flight = np.linalg.norm(ues[:, None] - hall.trp_position, axis=-1)
        samples["coupling_loss"].append(-10 * np.log10(total.max(axis=1)))
        samples["delay_spread"].append(np.sqrt(variance)[nlos] * 1e9)
        samples["excess_delay"].append((first - flight / SPEED_OF_LIGHT)[nlos] * 1e9)
    return {name: np.concatenate(values) for name, values in samples.items()}


def print_table(samples: dict[str, dict[str, np.ndarray]]) -> None:
    """Print percentiles, and mean and spread of the logarithm of the delays."""
    header = " | ".join(f"{share} %" for share in _PERCENTILES)
    print(f"| sub-scenario | quantity | {header} | mean lg | std lg |")
    for sub_scenario, quantities in samples.items():
        for name, values in quantities.items():
            row = [f"{value:.1f}" for value in np.percentile(values, _PERCENTILES)]
            if name != "coupling_loss":
                exponent = np.log10(values * 1e-9)
                row += [f"{exponent.mean():.3f}", f"{exponent.std():.3f}"]
            print(f"| {sub_scenario} | {_LABELS[name]} | {' | '.join(row)} |")


def draw_figure(samples: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Draw the distributions, one panel for each quantity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    for axes, (name, label) in zip(
        figure.subplots(1, len(_LABELS), sharey=True), _LABELS.items(), strict=True
    ):
        for sub_scenario, quantities in samples.items():
            values = np.sort(quantities[name])
            share = (np.arange(len(values)) + 0.5) / len(values)
            axes.plot(values, share, label=f"InF-{sub_scenario.upper()}", lw=1.3)
        if name != "coupling_loss":
            axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.grid(color="0.88", linewidth=0.5)
    figure.axes[0].set_ylabel("share of links")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=160)


def main() -> None:
    """Draw channels as the command line says, print the table, save the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ues", type=int, default=1000, help="UEs of a factory")
    parser.add_argument("--factories", type=int, default=4)
    parser.add_argument("--figure", type=Path, help="PNG file for the distributions")
    arguments = parser.parse_args()
    samples = {
        name: draw(name, arguments.ues, arguments.factories)
        for name in ("sl", "dl", "sh", "dh")
    }
    print_table(samples)
    if arguments.figure:
        draw_figure(samples, arguments.figure)


if __name__ == "__main__":
    main()
