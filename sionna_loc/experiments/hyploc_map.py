"""Figure 3 of the HypLoc paper: the Madrid grid, its gNBs, and what is heard of them.

Nothing is trained. The received power is that of the training tracks, so that the map
shows where vehicles drive, too. The table says for each numbered constellation how well
it covers the training tracks.

References: Klus et al., "Deep Hypernetwork-based Robust Localization in Millimeter-Wave
Networks", Sec. IV-A, Fig. 3.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sionna_loc.data import frozen
from sionna_loc.device import use_device
from sionna_loc.experiments import reports
from sionna_loc.experiments.figures import power_map
from sionna_loc.features.link_measurements import LinkMeasurements
from sionna_loc.plotting import save_figure
from sionna_loc.registry import get_scenario
from sionna_loc.scenarios.madrid import NUM_CONSTELLATIONS

_SHOWN_GNB = 7
"""Number of the gNB whose power is shown: the one at (272, 280), beside the park."""


def run_fig3(
    budget: str,
    output: Path,
    *,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Trace the training set, if need be; write `fig3.json`, `.csv`, `.png`, `.pdf`.

    Args and Raises: see `hyploc.run_fig4`; both budgets are the same.

    Returns: the table as text.
    """
    del budget
    reports.prepare(output)
    use_device(device)
    numbers = list(range(NUM_CONSTELLATIONS))
    scenario = get_scenario("madrid", small=small, constellations=numbers)
    links = frozen.load(scenario, "train", scenario.num_train)
    sets = scenario.site_sets(scenario.num_trps)
    power = (np.abs(links["path_gain"][:, _SHOWN_GNB]) ** 2).sum(axis=-1)
    heard = power > 0
    power_dbm = LinkMeasurements().tx_power_dbm + 10 * np.log10(power[heard])
    figure = power_map(
        scenario.place.top_view(),
        links["ue_position"][heard],
        power_dbm,
        scenario.trp_position,
        source=_SHOWN_GNB,
        active=sets[0],
    )
    save_figure(figure, output / "fig3")
    records = coverage(links, sets)
    reports.write(output, "fig3", records)
    names = ("heard", "none_heard", "one_heard", "no_line_of_sight")
    rows = [["constellation", "heard of 7", "none [%]", "one [%]", "no LoS [%]"]]
    rows += [
        [str(record["constellation"]), *(f"{record[name]:.2f}" for name in names)]
        for record in records
    ]
    return reports.text_table("Coverage of the training tracks", rows)


def coverage(
    links: Mapping[str, np.ndarray], sets: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """Return how well constellations cover UEs.

    Args:
        links: fields of the UEs' links to all gNBs, `num_paths` and `los`
            [num_ues, num_sites].
        sets: constellations, [num_sets, num_trps], int.

    Returns: for each the mean number of gNBs `heard`, and the shares [%] of UEs that
        have `none_heard`, only `one_heard`, and `no_line_of_sight`.
    """
    records = []
    for number, chosen in enumerate(sets):
        count = (links["num_paths"][:, chosen] > 0).sum(axis=1)
        sight = links["los"][:, chosen].any(axis=1)
        records.append(
            {
                "constellation": number,
                "gnbs": chosen.tolist(),
                "heard": float(count.mean()),
                "none_heard": 100 * float((count == 0).mean()),
                "one_heard": 100 * float((count == 1).mean()),
                "no_line_of_sight": 100 * float((~sight).mean()),
            }
        )
    return records
