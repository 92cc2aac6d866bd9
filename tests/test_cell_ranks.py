"""How `benchmarks/cell_agreement.py` ranks cells, in free space."""

import benchmark_scripts
import numpy as np
from free_space_links import NUMBERS, batches, grid

from sionna_loc.models.backprojection import BackProjectionLocalizer


def test_cells_are_ranked_by_where_the_paths_come_from():
    benchmark = benchmark_scripts.load("cell_agreement")
    model = BackProjectionLocalizer.from_preset("compact", num_cells=8, **NUMBERS)
    ue = grid(5.0)
    seen = batches(ue, 16)
    model.scaling.adapt_to_inputs(seen)
    ranks = benchmark.ranks_of(model, seen)
    assert len(ranks) == len(ue) and np.mean(ranks < 3) > 0.8
    moved = [(inputs, {"position": ue[::-1][:16]}) for inputs, _ in seen[:1]]
    assert np.mean(benchmark.ranks_of(model, moved) < 3) < 0.5
