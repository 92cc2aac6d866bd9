"""What runs leave in their folders."""

import csv

import numpy as np

from sionna_loc import saving
from sionna_loc.checkpoints import list_checkpoints


def history_rows(run_dir):
    with open(run_dir / saving.HISTORY, newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def final_arrays(run_dir):
    last = list_checkpoints(run_dir / saving.CHECKPOINTS)[-1]
    with np.load(last / "arrays.npz") as arrays:
        return dict(arrays)
