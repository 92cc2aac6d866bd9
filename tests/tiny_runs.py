"""Runs of tiny models on files of measurements."""

import json
import shlex

from tiny_vinloc import SIZES

from sionna_loc import train

BACKPROJECTION = {
    "num_cells": 8, "num_images": 0, "num_candidates": 3, "divisions": [2],
    "evidence_units": 8, "evidence_window": 5, "grid_units": 8, "grid_blocks": 1,
}  # fmt: skip
VINLOC = {**SIZES, "refiner_spacings": [], "refiner_images": 0, "gaussian_head": True}


def trained(folder, model, options, extra="", steps=2):
    """Train as the command line does; return the run's folder."""
    command = f"--run-dir {folder} --model {model} --steps {steps} --no-baseline "
    command += f"--quiet --device cpu {extra} "
    command += " ".join(
        shlex.quote(f"--model-option={name}={json.dumps(value)}")
        for name, value in options.items()
    )
    assert train.main(shlex.split(command)) == 0
    return folder
