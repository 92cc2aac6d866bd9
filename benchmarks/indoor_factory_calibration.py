"""What do the channels of the indoor factory look like, next to tables and to Sionna's?

    python benchmarks/indoor_factory_calibration.py --figure calibration.png

Halls, clutter and TRPs of 3GPP's calibration (TR 38.901, Table 7.8-7) at 3.5 GHz, line
of sight drawn, several factories each, UEs all over the floor with one isotropic
antenna. Printed as a table and drawn as distributions are, among others,

* the coupling loss to the best TRP of a UE and to all TRPs,
* the delay spread of links without line of sight,
* by how much the first path of such a link is later than the direct way.

The last two stand beside what Tables 7.5-6 and 7.6.9-1 give.

    python benchmarks/indoor_factory_calibration.py --reference reference.npz

The same beside Sionna 2.2's own channel, which `indoor_factory_reference.py` measures:
at the UEs of that file, with links that are independent as they are there, so that what
distances of the distributions may come from chance is known. `--system-level` compares
`InF` instead of `IndoorFactory`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from link_statistics import ANGLES, ks_bound, ks_distance

Links = dict[str, np.ndarray]

SUB_SCENARIOS = ("sl", "dl", "sh", "dh")
BEST, ALL, EXCESS = "coupling loss, best TRP [dB]", "coupling loss [dB]", "excess [ns]"

_PERCENTILES = (5, 50, 95)
_UES = 1000
_DRAWN = ("DS", "ASD", "ASA", "ZSD", "ZSA", "SF", "K")


def draw(sub_scenario: str, num_ues: int, num_factories: int) -> Links:
    """Return the links of several factories, one after the other."""
    from indoor_factory_links import computed, of_factory

    from sionna_loc.channels.indoor_factory import IndoorFactory
    from sionna_loc.places.factory_hall import FactoryHall

    hall = FactoryHall.calibration(sub_scenario)
    parts = []
    for seed in range(num_factories):
        channel = IndoorFactory(
            hall, sub_scenario=sub_scenario, seed=seed, line_of_sight="drawn"
        )
        generator = np.random.default_rng(seed)
        ues = generator.uniform(*hall.ue_region, (num_ues, 3)).astype(np.float32)
        links = of_factory(channel, ues)
        links |= computed(
            hall, sub_scenario, ues, links["los"], channel.carrier_frequency
        )
        way = ues[:, None, :2] - hall.trp_position[:, :2]
        parts.append({**links, "distance": np.linalg.norm(way, axis=-1)})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def draw_like(
    reference: Links,
    sub_scenario: str,
    frequency: float,
    num_factories: int,
    system_level: bool = False,
) -> Links:
    """Return independent links between the UEs and TRPs of a reference.

    The UEs are shared out among several factories, because one factory has but one sign
    of the angles for each cluster of a TRP.

    Raises: ValueError if the reference has another hall or other TRPs.
    """
    from indoor_factory_links import (
        computed,
        drawn_parameters,
        of_factory,
        of_system_level,
    )

    from sionna_loc.channels.indoor_factory import IndoorFactory
    from sionna_loc.channels.indoor_factory_fields import SpatialConsistency
    from sionna_loc.places.factory_hall import FactoryHall

    hall = FactoryHall.calibration(sub_scenario)
    size = (hall.length, hall.width, hall.height)
    same = np.array_equal(reference["hall"], size)
    if not same or not np.allclose(reference["trp_position"], hall.trp_position):
        raise ValueError(f"The reference has another hall of InF-{sub_scenario}.")
    ues, los = reference["ue_position"], reference["los"]
    if system_level:
        links = of_system_level(hall, sub_scenario, ues, frequency)
    else:
        parts = []
        for seed, part in enumerate(np.array_split(ues, num_factories)):
            channel = IndoorFactory(
                hall,
                sub_scenario=sub_scenario,
                seed=seed,
                carrier_frequency=frequency,
                line_of_sight="drawn",
                consistency=SpatialConsistency(shape="none"),
            )
            parts.append(of_factory(channel, part))
        links = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    links |= drawn_parameters(hall, sub_scenario, los, frequency, seed=0)
    links |= computed(hall, sub_scenario, ues, los, frequency)
    # Parameters are drawn for the states of the reference, paths for states of ours.
    return {**links, "drawn_los": los}


def quantities(links: Links) -> dict[str, np.ndarray]:
    """Return the samples that are compared, each [number of links]."""
    los = links["los"]
    samples = {
        BEST: links["coupling_loss"].min(axis=1),
        ALL: links["coupling_loss"].ravel(),
        "line of sight": los.ravel().astype(float),
    }
    for state, mask in (("NLOS", ~los), ("LOS", los)):
        samples[f"coupling loss [dB], {state}"] = links["coupling_loss"][mask]
        samples[f"delay spread [ns], {state}"] = links["delay_spread"][mask] * 1e9
        for name in ANGLES:
            samples[f"{name.upper()} [deg], {state}"] = links[name][mask]
    if "excess_delay" in links:
        samples[EXCESS] = links["excess_delay"][~los] * 1e9
    if "drawn_DS" in links:
        los = links.get("drawn_los", los)
        for state, mask in (("NLOS", ~los), ("LOS", los)):
            for name in _DRAWN[: None if state == "LOS" else -1]:
                samples[f"drawn {name}, {state}"] = links[f"drawn_{name}"][mask]
    return samples


def print_table(samples: dict[str, dict[str, np.ndarray]]) -> None:
    """Print percentiles, and mean and spread of the logarithm of the delays."""
    header = " | ".join(f"{share} %" for share in _PERCENTILES)
    print(f"| sub-scenario | quantity | {header} | mean lg | std lg |")
    for sub_scenario, sample in samples.items():
        for name in (BEST, ALL, "delay spread [ns], NLOS", EXCESS):
            values = sample[name]
            row = [f"{value:.1f}" for value in np.percentile(values, _PERCENTILES)]
            if name not in (BEST, ALL):
                exponent = np.log10(values * 1e-9)
                row += [f"{exponent.mean():.3f}", f"{exponent.std():.3f}"]
            print(f"| {sub_scenario} | {name} | {' | '.join(row)} |")


def print_comparison(
    ours: dict[str, dict[str, np.ndarray]], theirs: dict[str, dict[str, np.ndarray]]
) -> None:
    """Print both, how far they differ, and what chance alone may give in 1 %."""
    shares = "/".join(map(str, _PERCENTILES))
    print(f"\n| sub-scenario | quantity | links | {shares} %, ours | theirs | ", end="")
    print("mean, ours - theirs | KS distance | 1 % bound | |")
    for sub_scenario, samples in theirs.items():
        for name, their in samples.items():
            our = ours[sub_scenario][name]
            scale = 1e9 if name.startswith("drawn DS") else 1.0
            percentiles = [
                " / ".join(f"{v:.4g}" for v in np.percentile(x * scale, _PERCENTILES))
                for x in (our, their)
            ]
            distance, bound = ks_distance(our, their), ks_bound(len(our), len(their))
            shift = (our.mean() - their.mean()) * scale
            print(
                f"| {sub_scenario} | {name} | {len(our)}, {len(their)} | "
                f"{percentiles[0]} | {percentiles[1]} | {shift:+.3g} | "
                f"{distance:.4f} | {bound:.4f} | {'>' * (distance > bound)} |"
            )


def print_exact(ours: dict[str, Links], theirs: dict[str, Links]) -> None:
    """Print by how much differ what is computed, and correlations of what is drawn."""
    print("\n| sub-scenario | computed | largest difference |")
    for sub_scenario, links in theirs.items():
        own = ours[sub_scenario]
        for kind in ("path_loss", "los_probability", "mean_", "std_"):
            names = [name for name in links if name.startswith(kind)]
            worst = max(np.abs(own[name] - links[name]).max() for name in names)
            print(f"| {sub_scenario} | {kind.strip('_')} | {worst:.2g} |")
    print("\n| sub-scenario | correlation with K, LOS | ours | theirs |")
    for sub_scenario, links in theirs.items():
        los = links["los"]
        for name in ("DS", "ASD", "ASA", "SF"):
            row = []
            for part in (ours[sub_scenario], links):
                value = part[f"drawn_{name}"][los]
                value = value if name == "SF" else np.log10(value)
                row.append(f"{np.corrcoef(value, part['drawn_K'][los])[0, 1]:+.3f}")
            print(f"| {sub_scenario} | {name} | {' | '.join(row)} |")


def read_reference(
    path: Path, num_ues: int | None = None
) -> tuple[dict[str, Any], dict[str, Links]]:
    """Return settings and links of the first UEs of `indoor_factory_reference.py`."""
    links: dict[str, Links] = {name: {} for name in SUB_SCENARIOS}
    with np.load(path) as file:
        settings = json.loads(str(file["settings"]))
        for key in file.files:
            if "/" in key:
                sub_scenario, name = key.split("/")
                of_ues = name not in ("hall", "trp_position")
                links[sub_scenario][name] = file[key][: num_ues if of_ues else None]
    for part in links.values():
        way = part["ue_position"][:, None, :2] - part["trp_position"][:, :2]
        part["distance"] = np.linalg.norm(way, axis=-1)
    return settings, links


def main() -> None:
    """Draw channels as the command line says, print the tables, save the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ues", type=int, help="UEs of a factory, or of the reference")
    parser.add_argument("--factories", type=int, default=4)
    parser.add_argument("--figure", type=Path, help="PNG file for the distributions")
    parser.add_argument("--reference", type=Path, help="NPZ file to compare with")
    parser.add_argument("--system-level", action="store_true", help="compare InF")
    arguments = parser.parse_args()
    theirs: dict[str, Links] = {}
    if arguments.reference:
        settings, theirs = read_reference(arguments.reference, arguments.ues)
        print(f"Reference: {settings}")
        ours = {
            name: draw_like(
                links,
                name,
                settings["carrier_frequency"],
                arguments.factories,
                arguments.system_level,
            )
            for name, links in theirs.items()
        }
        for name, links in ours.items():
            links["distance"] = theirs[name]["distance"]
    else:
        ours = {
            name: draw(name, arguments.ues or _UES, arguments.factories)
            for name in SUB_SCENARIOS
        }
    samples = {name: quantities(links) for name, links in ours.items()}
    print_table(samples)
    if theirs:
        print_comparison(samples, {k: quantities(v) for k, v in theirs.items()})
        print_exact(ours, theirs)
    if arguments.figure:
        from indoor_factory_figure import draw_figure

        draw_figure(ours, theirs, arguments.figure)


if __name__ == "__main__":
    main()
