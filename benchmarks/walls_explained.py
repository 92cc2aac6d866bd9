"""How much of what UEs hear do the walls that are found explain?

    python benchmarks/walls_explained.py --scenario paris_scn2 --few 10

Half of the UEs of the frozen validation set (drawn and cached if that has not been done
yet) show where walls are (`layers.wall_search`); the other half tell what it is worth:
the share of the strong peaks of their CIRs, direct paths left out, that lie where the
images of the TRPs predict. It is printed for the first image, the first two, and so
on, for UEs that hear up to `--few` TRPs and for the others: the first need reflections
most.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from sionna_loc.assembly import make_features, reading_options
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.device import use_device
from sionna_loc.layers.wall_images import received_links
from sionna_loc.layers.wall_search import Links, explained_shares, find_images
from sionna_loc.registry import get_model_class, get_scenario

_BATCH_SIZE = 50


def main() -> None:
    """Search, print a table, and write it as JSON if asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="paris_scn2")
    parser.add_argument("--num-trps", type=int, help="default: the scenario's")
    parser.add_argument("--num-ues", type=int, default=1000)
    parser.add_argument("--images", type=int, default=12, help="to look for")
    parser.add_argument("--few", type=int, default=10, help="TRPs heard")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    print(use_device().description)
    scenario = get_scenario(arguments.scenario)
    power, links = received(scenario, arguments.num_ues, arguments.num_trps)
    metres_per_tap = SPEED_OF_LIGHT / scenario.sampling_rate
    results = compare(power, links, metres_per_tap, arguments.images, arguments.few)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def received(
    scenario: object, num_ues: int, num_trps: int | None
) -> tuple[np.ndarray, Links]:
    """Return powers [num_links, num_taps] and links of frozen validation samples."""
    features = make_features(scenario, get_model_class("vinloc"))
    samples = scenario.frozen(
        "validation",
        num_ues,
        num_trps,
        batch_size=_BATCH_SIZE,
        **reading_options(features),
    )
    batches = samples.map(features)
    power, trp_position, ue_position = received_links(batches, None)
    return power, Links(trp_position.astype(float), ue_position.astype(float))


def compare(
    power: np.ndarray, links: Links, metres_per_tap: float, num_images: int, few: int
) -> dict[str, object]:
    """Return the shares that the walls of one half of the UEs explain of the other."""
    level_db = (10 * np.log10(power + 1e-20)).astype("float32")
    _, ue, heard = np.unique(
        links.ue_position, axis=0, return_inverse=True, return_counts=True
    )
    ue = ue.ravel()
    searched = np.random.default_rng(0).permutation(len(heard)) < len(heard) // 2
    images = find_images(
        *_chosen(level_db, links, searched[ue]), metres_per_tap, num_images
    )
    shares = {}
    for name, group in (("few", heard[ue] <= few), ("more", heard[ue] > few)):
        chosen = _chosen(level_db, links, group & ~searched[ue])
        shares[name] = explained_shares(*chosen, metres_per_tap, images).tolist()
    poor = heard[~searched] <= few
    return {"few": few, "ues": [int(poor.sum()), int((~poor).sum())], "shares": shares}


def _chosen(
    level_db: np.ndarray, links: Links, chosen: np.ndarray
) -> tuple[np.ndarray, Links]:
    """Return the levels and links for which `chosen` [num_links] is true."""
    return level_db[chosen], links.chosen(chosen)


def table(results: dict[str, object]) -> str:
    """Return a line for each number of images."""
    few, (num_few, num_more) = results["few"], results["ues"]
    lines = [
        f"Peaks explained [%], of {num_few} UEs that hear up to {few} TRPs and of "
        f"{num_more} that hear more:"
    ]
    pairs = zip(results["shares"]["few"], results["shares"]["more"], strict=True)
    for count, pair in enumerate(pairs, 1):
        lines.append(f"{count:3} images  " + "".join(f"{100 * x:7.1f}" for x in pair))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
