"""How `benchmarks/walls_explained.py` counts, on walls that are known."""

import benchmark_scripts
import numpy as np

from sionna_loc.layers.wall_search import Links

METRES_PER_TAP, WALL = 1.5, 40.0


def test_ues_are_counted_by_what_they_hear_and_explained_by_the_wall():
    """Direct paths and those over a wall at y = 40 m; one UE in two hears 3 TRPs."""
    rng = np.random.default_rng(0)
    heard = np.tile([3, 12], 150)
    ue = np.repeat(rng.uniform([-80, -20, 1.5], [80, 20, 1.5], (300, 3)), heard, axis=0)
    trp = rng.uniform([-80, -20, 10.0], [80, 20, 10.0], (len(ue), 3))
    image = trp * [1, -1, 1] + [0, 2 * WALL, 0]
    power = 1e-9
    for strength, begin in ((1.0, trp), (0.5, image)):
        delay = np.linalg.norm(begin - ue, axis=1)[:, None] / METRES_PER_TAP
        power = power + strength * np.sinc(np.arange(160) - delay) ** 2
    benchmark = benchmark_scripts.load("walls_explained")
    results = benchmark.compare(power, Links(trp, ue), METRES_PER_TAP, 2, few=5)
    assert sum(results["ues"]) == 150 and min(results["ues"]) > 50
    for share in results["shares"].values():
        assert len(share) == 1 and share[0] > 0.9  # there is no second wall
    first_line, *lines = benchmark.table(results).splitlines()
    assert "up to 5 TRPs" in first_line and len(lines) == 1
