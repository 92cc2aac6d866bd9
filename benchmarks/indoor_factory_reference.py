"""What does Sionna 2.2's own indoor factory look like? Written for a comparison.

Sionna 2.2 is PyTorch and cannot be installed beside this library's Sionna 1.2: it
needs an environment of its own, which nothing else uses.

    python3 -m venv sionna2
    sionna2/bin/pip install "torch==2.13.0" "sionna>=2.2,<3"  # A CPU build is enough.
    sionna2/bin/python benchmarks/indoor_factory_reference.py --output reference.npz

Hall, TRPs, UEs and clutter are Sionna's own for 3GPP's calibration (TR 38.901, Table
7.8-7): UEs all over the floor, 1 m or more from a TRP, line of sight drawn, one
isotropic antenna with vertical polarisation at both ends. Each UE is alone in its drop,
so all links are independent. Written are, for each sub-scenario and link,

* what the model computes: path loss, probability of a line of sight, mean and standard
  deviation of the large-scale parameters;
* what it draws: line of sight and large-scale parameters;
* what its paths show: coupling loss, delay spread and spreads of angles, of clusters
  without the width of a cluster.

`indoor_factory_calibration.py --reference` draws this library's channel at the same
positions and compares.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from link_statistics import cluster_of_paths, path_statistics

SUB_SCENARIOS = ("sl", "dl", "sh", "dh")
LARGE_SCALE = ("DS", "ASD", "ASA", "SF", "K", "ZSA", "ZSD")
"""Order of Sionna's large-scale parameters."""

_ANGLE_NAMES = {"aoa": ("zoa", "aoa"), "aod": ("zod", "aod")}


def make_channel(sub_scenario: str, carrier_frequency: float) -> Any:
    """Return Sionna's channel of a sub-scenario, with rays of no width."""
    from sionna.phy.channel.tr38901 import InF, PanelArray

    ends = [
        PanelArray(
            num_rows_per_panel=1,
            num_cols_per_panel=1,
            polarization="single",
            polarization_type="V",
            antenna_pattern="omni",
            carrier_frequency=carrier_frequency,
        )
        for _ in range(2)
    ]
    channel = InF(carrier_frequency, *ends, "downlink", sub_scenario)
    channel.return_rays = True
    # Of an isotropic antenna, the angles of rays change nothing but the angles: with
    # no width, a ray's angle is its cluster's.
    channel._ray_sampler._ray_offsets.zero_()
    return channel


def draw(channel: Any, topology: Any) -> dict[str, np.ndarray]:
    """Return what there is to know of the links of one batch, [num_ues, num_trps]."""
    channel.set_topology(*topology)
    gain, delay, rays = channel(1, 1.0)
    scenario, lsp = channel._scenario, channel._lsp
    links = {
        "los": scenario.los,
        "los_probability": scenario.los_probability,
        "path_loss": lsp.pathloss,
        "drawn_DS": lsp.ds,
        "drawn_ASD": lsp.asd,
        "drawn_ASA": lsp.asa,
        "drawn_SF": 10 * lsp.sf.log10(),
        "drawn_K": 10 * lsp.k_factor.log10(),
        "drawn_ZSA": lsp.zsa,
        "drawn_ZSD": lsp.zsd,
    }
    for index, name in enumerate(LARGE_SCALE):
        scale = 10.0 if name in ("SF", "K") else 1.0
        links[f"mean_{name}"] = scale * scenario.lsp_log_mean[..., index]
        links[f"std_{name}"] = scale * scenario.lsp_log_std[..., index]
    # A copy: the next topology is written over Sionna's own tensors.
    links = {name: value[..., 0].numpy().copy() for name, value in links.items()}
    # The single UE, receiving antenna, transmitting antenna and instant.
    gain = gain[:, 0, 0, :, 0, :, 0].numpy()
    delay = delay[:, 0].numpy()  # [num_ues, num_trps, num_paths]
    cluster_delay, cluster_power = rays.delays[:, :, 0], rays.powers[:, :, 0]
    spread = float(scenario.get_param("cDS").max()) * 1e-9
    index, expected = cluster_of_paths(
        cluster_delay.numpy(), cluster_power.numpy(), spread
    )
    np.testing.assert_allclose(delay, expected, atol=1e-11)
    ends = {}
    for end, names in _ANGLE_NAMES.items():
        angles = [getattr(rays, name)[:, :, 0, :, 0].numpy() for name in names]
        ends[end] = np.stack(
            [np.take_along_axis(angle, index, axis=-1) for angle in angles], axis=-1
        )
    return {**links, **path_statistics(gain, delay, **ends)}


def sample(
    sub_scenario: str, num_ues: int, batch: int, carrier_frequency: float
) -> dict[str, np.ndarray]:
    """Draw `num_ues` UEs, `batch` at a time, each in a drop of its own."""
    from sionna.sys import gen_tr38901_indoor_factory_topology

    channel = make_channel(sub_scenario, carrier_frequency)
    parts = []
    for start in range(0, num_ues, batch):
        size = min(batch, num_ues - start)
        topology = gen_tr38901_indoor_factory_topology(sub_scenario, size, 1)
        if start + size == num_ues and size < batch:
            channel.reset_topology()  # Another number of drops.
        links = draw(channel, topology)
        parts.append({"ue_position": topology[0][:, 0].numpy().copy(), **links})
    links = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    links["trp_position"] = topology[1][0].numpy()
    links["hall"] = np.array(topology.hall_dimensions)
    return links


def main() -> None:
    """Draw as the command line says and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="NPZ file")
    parser.add_argument("--ues", type=int, default=4000, help="UEs of a sub-scenario")
    parser.add_argument("--batch", type=int, default=100, help="UEs at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--carrier-frequency", type=float, default=3.5e9, help="Hz")
    arguments = parser.parse_args()

    from sionna.phy import config

    config.seed = arguments.seed
    values = {}
    for sub_scenario in SUB_SCENARIOS:
        links = sample(
            sub_scenario, arguments.ues, arguments.batch, arguments.carrier_frequency
        )
        los = links["los"]
        print(
            f"InF-{sub_scenario.upper()}: {los.size} links, {los.mean():.1%} in sight"
        )
        for name, value in links.items():
            kept = value.astype(np.float32) if value.dtype.kind == "f" else value
            values[f"{sub_scenario}/{name}"] = kept
    settings = {
        "sionna": version("sionna"),
        "seed": arguments.seed,
        "carrier_frequency": arguments.carrier_frequency,
    }
    np.savez_compressed(arguments.output, settings=json.dumps(settings), **values)


if __name__ == "__main__":
    main()
