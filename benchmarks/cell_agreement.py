"""How surely do all paths, untrained, tell the cell of a map in which a UE is?

    python benchmarks/cell_agreement.py --scenario paris_scn1 --images 0,6,12

Half of the UEs of the frozen validation set (drawn and cached if that has not been done
yet), 400 of them at most, show where walls are (`layers.wall_search`). For the other
half the cells of the map of the model `backprojection` are put in order by how well
paths agree with them (`layers.cell_agreement`): the table says how often the UE's cell,
or one beside it, is among the first. Nothing is trained.
"""

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from keras import ops

from sionna_loc.assembly import make_features, reading_options
from sionna_loc.device import use_device
from sionna_loc.layers.token_set import TokenSet
from sionna_loc.layers.wall_images import learn_walls
from sionna_loc.models.backprojection import BackProjectionLocalizer
from sionna_loc.registry import get_scenario

FIRST = (1, 3, 8, 16)
_BATCH_SIZE = 50


def main() -> None:
    """Compare, print a table, and write it as JSON if asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="paris_scn1")
    parser.add_argument("--num-ues", type=int, default=1000)
    parser.add_argument("--images", default="0,6,12", help="numbers of images")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    print(use_device().description)
    scenario = get_scenario(arguments.scenario)
    features = make_features(scenario, BackProjectionLocalizer)
    options = {"batch_size": _BATCH_SIZE, **reading_options(features)}
    samples = scenario.frozen("validation", arguments.num_ues, None, **options)
    batches = list(samples.map(features))
    known, tested = batches[::2], batches[1::2]
    results = {}
    print("images" + "".join(f"  in the first {count:2}" for count in FIRST))
    for num_images in map(int, arguments.images.split(",")):
        ranks = ranks_of(make_model(scenario, num_images, known), tested)
        shares = [float(np.mean(ranks < count)) for count in FIRST]
        results[num_images] = dict(zip(FIRST, shares, strict=True))
        print(f"{num_images:6}" + "".join(f"{100 * x:15.1f} %" for x in shares))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def make_model(scenario: Any, num_images: int, known: list) -> BackProjectionLocalizer:
    """Return an untrained model that knows the walls."""
    model = BackProjectionLocalizer.from_preset(
        "compact",
        region=np.asarray(scenario.region).tolist(),
        num_taps=scenario.num_taps,
        sampling_rate=scenario.sampling_rate,
        num_ant=scenario.ue_array.num_ant,
        num_images=max(1, num_images),
    )
    learn_walls(model.images if num_images else None, model.scaling, known)
    return model


def ranks_of(model: BackProjectionLocalizer, batches: Iterable[Any]) -> np.ndarray:
    """Return how many cells come before the UE's, or one beside it, [num_ues]."""
    centers, ranks = model.grid.centers(), []
    for inputs, targets in batches:
        tokens = TokenSet.of_cirs(inputs, model.num_ant, model.num_taps)
        cir = tokens.cir if model.to_beams is None else model.to_beams(tokens.cir)
        magnitude = ops.max(model.scaling(cir)[..., 2], axis=1)
        magnitude, position, mask = tokens.densify(magnitude, tokens.trp_position)
        paths = magnitude, position, model.images(position), mask
        value = model.cell_agreement(centers[None], *paths, side=model.grid.spacing)
        order = np.argsort(-ops.convert_to_numpy(value)[..., 0], axis=1, kind="stable")
        ue = ops.convert_to_numpy(targets["position"])[:, None, :2]
        far = np.abs(centers - ue).max(axis=-1)  # less than a cell: its own or beside
        beside = np.take_along_axis(far, order, axis=1) < model.grid.spacing
        ranks.append(beside.argmax(axis=1))
    return np.concatenate(ranks)


if __name__ == "__main__":
    main()
