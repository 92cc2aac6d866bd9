"""How many of its TRPs does a UE hear, and how many are in line of sight?

    python benchmarks/heard_trps.py --scenario cities --drops 80
    python benchmarks/heard_trps.py --scenario cities --split test --drops 40

Draws drops of a scenario and traces them. A sample has random ones of a drop's sites,
as many as the scenario says: what is reported is the expectation over all choices, of

* TRPs that a sample hears, and the share of these in line of sight,
* the shares of the samples without a TRP in line of sight, and with fewer than three,
* the share that hears too few TRPs for the scenario (`min_trps`). Streams and stored
  sets draw others in their place; the figures above count them, too.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import hypergeom


def count(
    heard: np.ndarray, los: np.ndarray, num_trps: int, min_trps: int
) -> dict[str, float]:
    """Say what samples of `num_trps` random ones of all sites hear, on average.

    Args:
        heard: [num_ues, num_sites], bool.
        los: [num_ues, num_sites], bool.
        num_trps: int > 0.
        min_trps: int > 0. Samples that hear fewer are drawn anew.
    """
    num_sites = heard.shape[1]

    def share_with_at_most(most: int, of: np.ndarray) -> float:
        sites = of.sum(axis=1)
        return float(hypergeom.cdf(most, num_sites, sites, num_trps).mean())

    return {
        "num_ues": len(heard),
        "heard_trps": float(heard.mean() * num_trps),
        "share_of_heard_in_line_of_sight": float(los.sum() / heard.sum()),
        "share_of_samples_without_line_of_sight": share_with_at_most(0, los),
        "share_of_samples_with_fewer_than_three": share_with_at_most(2, los),
        "share_of_samples_drawn_anew": share_with_at_most(min_trps - 1, heard),
    }


def main() -> None:
    """Parse the arguments, draw, count, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", default="cities")
    parser.add_argument("--small", action="store_true", help="few sites and UEs")
    parser.add_argument("--split", default="train", help="whose places: train, test")
    parser.add_argument("--drops", type=int, default=80)
    parser.add_argument("--ues", type=int, default=64, help="of each drop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    from sionna_loc.registry import get_scenario

    scenario = get_scenario(arguments.scenario, small=arguments.small)
    heard, los = [], []
    for index in range(arguments.drops):
        drop = scenario.drop((arguments.seed, index), arguments.ues, arguments.split)
        heard.append(drop["num_paths"].numpy() > 0)
        los.append(drop["los"].numpy())
    heard, los = np.concatenate(heard), np.concatenate(los)
    figures = count(heard, los, scenario.num_trps, scenario.min_trps)
    for name, value in figures.items():
        print(f"{name:40} {value:.4g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
