"""Compare `MultiUserPathSolver` with Sionna's `PathSolver`: time, memory, paths.

    python benchmarks/path_solver.py --cases 12x256@1e5@3,64x1024@1e4@3 --json FILE

A case is TRANSMITTERSxRECEIVERS@SAMPLES@DEPTH. Times are medians of warm calls that
alternate between the solvers in one process, on equal positions; `cached_s` is ours
with known transmitters. Peak memory is that of a process of its own for each solver.
Paths that only Sionna's solver has are computed anew in double precision: of these,
`missing_that_exist` are there and have none of ours at their delay and angles. To show
that this judge can say yes, `judge_recall` is the share of 200 paths of both solvers
that it finds to exist; their angles give the largest errors of both.
All look for lines of sight and specular reflections. `--scene` names a scene of Sionna
RT, `--repeats` the calls that count. On a machine that other jobs use, the ratio of
CPU times is the steadier one.
"""

import sionna_loc.channels  # noqa: F401 (loads LLVM, before Dr.Jit is imported)

# isort: split
import argparse
import itertools
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import drjit as dr
import mitsuba as mi
import numpy as np
import sionna.rt as rt
from exact_paths import ExactScene
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sionna_loc.channels.chain_tree import Search, shoot_trees
from sionna_loc.channels.path_finder import PathFinder
from sionna_loc.channels.path_solver import FlatPaths, MultiUserPathSolver
from sionna_loc.channels.scene_facets import build_scene_facets
from sionna_loc.constants import SPEED_OF_LIGHT

FREQUENCY = 40e9
DELAY_TOLERANCE = 1e-11
ANGLE_TOLERANCE = 2e-3
MAX_JUDGED = 200


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    num_sources: int
    num_targets: int
    samples: int
    depth: int

    @classmethod
    def parse(cls, text: str) -> "Case":
        """Read a case such as `12x256@1e5@3`."""
        try:
            links, samples, depth = text.split("@")
            sources, targets = links.split("x")
            numbers = int(sources), int(targets), int(float(samples)), int(depth)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"A case looks like 12x256@1e5@3. Received: {text!r}."
            ) from None
        return cls(text, *numbers)


def load(name: str) -> rt.Scene:
    """Load a scene of Sionna RT, with one isotropic antenna at every device."""
    scene = rt.load_scene(getattr(rt.scene, name))
    scene.frequency = FREQUENCY
    scene.tx_array = scene.rx_array = rt.PlanarArray(
        num_rows=1, num_cols=1, pattern="iso", polarization="V"
    )
    return scene


def draw(scene: rt.Scene, num_sources: int, num_targets: int, seed: int):
    """Draw sources above roofs and targets in the streets (all within a room)."""
    random = np.random.default_rng(seed)
    bounds = scene.mi_scene.bbox()
    low, high = np.array(bounds.min), np.array(bounds.max)
    count = 40 * (num_sources + num_targets)
    middle = (low + high)[:2] / 2
    half = np.minimum((high - low)[:2] * 0.3, 200.0)
    places = random.uniform(middle - half, middle + half, (count, 2))
    height = surface_height(scene, places, high[2] + 1)
    if (
        np.nanmax(height) - np.nanmin(height) < 1e-3
    ):  # a closed room: its ceiling is all that is seen
        inside = random.uniform(low, high, (num_sources + num_targets, 3))
        inside = low + (inside - low) * 0.9 + (high - low) * 0.05
        return np.split(inside.astype(np.float32), [num_sources])
    roofs, streets = height > low[2] + 5, height < low[2] + 1
    sources = np.column_stack([places, height + 3])[roofs][:num_sources]
    targets = np.column_stack([places, height + 1.5])[streets][:num_targets]
    return sources.astype(np.float32), targets.astype(np.float32)


def surface_height(scene: rt.Scene, places: np.ndarray, above: float) -> np.ndarray:
    """Return the height [m] of what stands at places [n, 2], seen from above."""
    origin = mi.Point3f(*np.column_stack([places, np.full(len(places), above)]).T)
    hit = scene.mi_scene.ray_intersect(mi.Ray3f(origin, mi.Vector3f(0, 0, -1)))
    return np.where(hit.is_valid().numpy(), hit.p.z.numpy(), np.nan)


def add_devices(scene: rt.Scene, sources: np.ndarray, targets: np.ndarray) -> None:
    """Place Sionna's devices, which its own solver needs."""
    for number, position in enumerate(sources.tolist()):
        scene.add(rt.Transmitter(f"tx-{number}", position=position))
    for number, position in enumerate(targets.tolist()):
        scene.add(rt.Receiver(f"rx-{number}", position=position))


def stock_call(scene: rt.Scene, case: Case) -> Callable[[], rt.Paths]:
    """Return a call of Sionna's solver."""
    solver = rt.PathSolver()
    # Its buffers hold this many paths for each source, found or not.
    limit = 1_000_000 if case.num_sources <= 16 else 100_000

    def call() -> rt.Paths:
        paths = solver(
            scene,
            max_depth=case.depth,
            samples_per_src=case.samples,
            max_num_paths_per_src=limit,
            refraction=False,
        )
        dr.eval(paths.a, paths.tau)
        dr.sync_thread()
        return paths

    return call


def our_call(scene, case: Case, ends, **options) -> Callable[[], FlatPaths]:
    """Return a call of our solver."""
    solver = MultiUserPathSolver(**options)
    return lambda: solver.trace(
        scene, *ends, max_depth=case.depth, samples_per_src=case.samples
    )


def seconds(calls: dict[str, Callable], repeats: int) -> tuple[dict, dict, dict]:
    """Return median wall and CPU times [s] of calls that take turns, and results.

    The first call warms up, and counts only if it takes more than a minute: its
    compilation is lost in that.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    results = {}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            if sum(wall for wall, _ in times[name]) > 60:
                continue
            start = time.perf_counter(), time.process_time()
            results[name] = call()
            taken = time.perf_counter() - start[0], time.process_time() - start[1]
            if turn or taken[0] > 60:
                times[name].append(taken)
    wall, cpu = (
        {name: statistics.median(one[kind] for one in times[name]) for name in calls}
        for kind in range(2)
    )
    return wall, cpu, results


def flatten(paths: rt.Paths) -> FlatPaths:
    """Return the paths of Sionna's result as flat arrays."""
    gain, delay = paths.cir(normalize_delays=False, out_type="numpy")
    target, source, place = np.nonzero(paths.valid.numpy())
    at = target, source, place
    return FlatPaths(
        source=source,
        target=target,
        gain=gain[target, 0, source, 0, place, 0],
        delay=delay[at],
        aod=np.stack([paths.theta_t.numpy()[at], paths.phi_t.numpy()[at]], -1),
        aoa=np.stack([paths.theta_r.numpy()[at], paths.phi_r.numpy()[at]], -1),
        num_interactions=np.zeros(len(source), np.int32),
    )


def features(paths: FlatPaths, num_targets: int) -> np.ndarray:
    """Return points [num_paths, 8]: equal paths lie within 1 of each other."""
    link = paths.source.astype(np.int64) * num_targets + paths.target
    columns = [10.0 * link, paths.delay.astype(np.float64) / DELAY_TOLERANCE]
    for angles in (paths.aod.astype(float), paths.aoa.astype(float)):
        zenith, azimuth = angles.T
        flat = np.sin(zenith)
        direction = flat * np.cos(azimuth), flat * np.sin(azimuth), np.cos(zenith)
        columns += [part / ANGLE_TOLERANCE for part in direction]
    return np.column_stack(columns)


def compare(stock: FlatPaths, ours: FlatPaths, num_targets: int):
    """Look for stock's distinct paths among ours.

    Returns: what is to be said of them, and the indices of those found and missing.
    """
    points = features(stock, num_targets)
    pairs = cKDTree(points).query_pairs(1.0, p=np.inf, output_type="ndarray")
    size = len(points)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (size, size))
    num_distinct, label = connected_components(graph, directed=False)
    first = np.unique(label, return_index=True)[1]
    distance, match = cKDTree(features(ours, num_targets)).query(
        points[first], p=np.inf
    )
    found = distance <= 1.0
    power = np.abs(stock.gain[first]) ** 2
    match = match[found]
    ratio = np.abs(ours.gain[match]) / np.abs(stock.gain[first][found])
    gain_error = np.abs(20 * np.log10(ratio))
    delay_error = np.abs(ours.delay[match] - stock.delay[first][found])
    row = {
        "recall_paths": float(found.mean()),
        "recall_power": float(power[found].sum() / power.sum()),
        "stock_paths": num_distinct,
        "our_paths": len(ours.gain),
        "stock_duplicates": size - num_distinct,
        "gain_within_0.1_db": float((gain_error < 0.1).mean()),
        "gain_error_db_p99": float(np.percentile(gain_error, 99)),
        "delay_error_ns_max": float(delay_error.max() * 1e9),
    }
    return row, first[found], first[~found]


def judge(scene, paths, stock: FlatPaths, ours: FlatPaths, ends, found, missing):
    """Say which of stock's paths exist, of those that ours lack and those of both."""
    random = np.random.default_rng(0)
    some = random.choice(found, min(MAX_JUDGED, len(found)), replace=False)
    exact = ExactScene(scene)
    at = np.argwhere(paths.valid.numpy())
    num_targets = len(ends[1])
    tree = cKDTree(features(ours, num_targets))
    exists, truth = solve_exactly(exact, paths, ends, at[missing])
    distance, _ = tree.query(features(truth, num_targets), p=np.inf)
    row = {
        "missing": len(missing),
        "missing_that_exist": int((exists & (distance > 1.0)).sum()),
    }
    exists, truth = solve_exactly(exact, paths, ends, at[some])
    points = features(truth, num_targets)
    _, match = tree.query(points, p=np.inf)
    of_stock = features(stock, num_targets)[some]
    for name, other in (("", tree.data[match]), ("stock_", of_stock)):
        error = np.abs(other - points)[:, 2:].max() * ANGLE_TOLERANCE
        row[f"{name}angle_error_mrad_max"] = float(error * 1e3)
    return row | {"judge_recall": float(exists.mean())}


def solve_exactly(exact: ExactScene, paths: rt.Paths, ends, at):
    """Return whether paths exist, and what they are in double precision."""
    exists, length, directions = exact.solve(paths, *ends, at)
    x, y, z = np.moveaxis(directions, -1, 0)
    angles = np.stack([np.arccos(np.clip(z, -1, 1)), np.arctan2(y, x)], axis=-1)
    truth = FlatPaths(
        source=at[:, 1],
        target=at[:, 0],
        gain=np.zeros(len(at), np.complex64),
        delay=length / SPEED_OF_LIGHT,
        aod=angles[:, 0],
        aoa=angles[:, 1],
        num_interactions=np.zeros(len(at), np.int32),
    )
    return exists, truth


def count_duplicates(scene: rt.Scene, case: Case, ends) -> int:
    """Count our paths that hit the same primitives as another path of their link."""
    finder = PathFinder(max_rays=4_000_000, max_cached_chains=0)
    search = Search(case.samples, case.depth)
    groups: dict[int, list[np.ndarray]] = {}
    found = finder.find(scene.mi_scene, *ends, search, los=True)
    for part in itertools.chain(*found):
        columns = part.source, part.target, part.shape, part.primitive
        keys = np.column_stack(columns).astype(np.int64)
        groups.setdefault(keys.shape[1], []).append(keys)
    keys = [np.concatenate(group) for group in groups.values()]
    return sum(len(one) - len(np.unique(one, axis=0)) for one in keys)


class RecordingScene:
    """Stands in for a Mitsuba scene and keeps the rays that are cast."""

    def __init__(self, mi_scene: mi.Scene) -> None:
        self.mi_scene = mi_scene
        self.rays: list[mi.Ray3f] = []

    def ray_intersect_preliminary(self, ray: mi.Ray3f, **options):
        """Cast rays in the scene."""
        self.rays.append(mi.Ray3f(ray))
        return self.mi_scene.ray_intersect_preliminary(ray, **options)


def shooting(scene: rt.Scene, case: Case, ends) -> dict[str, float]:
    """Return what shooting takes, and what casting its rays alone takes."""
    facets, search = (
        build_scene_facets(scene.mi_scene),
        Search(case.samples, case.depth),
    )
    recording = RecordingScene(scene.mi_scene)

    def shoot(mi_scene=scene.mi_scene) -> None:
        list(shoot_trees(mi_scene, facets, ends[0], search, 4_000_000))

    def cast() -> None:
        for ray in recording.rays:
            found = scene.mi_scene.ray_intersect_preliminary(ray, coherent=False)
            dr.eval(found.t)
        dr.sync_thread()

    shoot(recording)
    dr.eval(recording.rays)
    times, _, _ = seconds({"shoot": shoot, "cast": cast}, 3)
    num_rays = sum(dr.width(ray.o) for ray in recording.rays)
    return {
        "shoot_s": times["shoot"],
        "shoot_mrays_per_s": num_rays / times["shoot"] / 1e6,
        "cast_mrays_per_s": num_rays / times["cast"] / 1e6,
    }


def peak_memory_mb(which: str, case: Case, arguments) -> float:
    """Return the peak memory [MB] of a process that runs one solver once."""
    command = [sys.executable, __file__, "--cases", case.name]
    command += ["--scene", arguments.scene, "--seed", str(arguments.seed)]
    command += ["--peak-memory-of", which]
    output = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(output.stdout.split()[-1])


def run_case(case: Case, arguments) -> dict[str, float | str]:
    """Measure one case."""
    scene = load(arguments.scene)
    ends = draw(scene, case.num_sources, case.num_targets, arguments.seed)
    add_devices(scene, *ends)
    calls = {
        "stock": stock_call(scene, case),
        "ours": our_call(scene, case, ends, max_cached_chains=0),
        "cached": our_call(scene, case, ends),
    }
    row: dict[str, float | str] = {"scene": arguments.scene, "case": case.name}
    times, cpu, results = seconds(calls, arguments.repeats)
    row |= {f"{name}_s": value for name, value in times.items()}
    row |= {f"{name}_cpu_s": value for name, value in cpu.items()}
    row["ratio"] = times["stock"] / times["ours"]
    row["cpu_ratio"] = cpu["stock"] / cpu["ours"]
    row["cached_links_per_s"] = case.num_sources * case.num_targets / times["cached"]
    both = flatten(results["stock"]), results["ours"]
    compared, *indices = compare(*both, case.num_targets)
    row |= compared | judge(scene, results["stock"], *both, ends, *indices)
    row["duplicates"] = count_duplicates(scene, case, ends)
    row |= shooting(scene, case, ends)
    if not arguments.no_memory:
        for which in ("stock", "ours"):
            row[f"{which}_peak_mb"] = peak_memory_mb(which, case, arguments)
    return row


def main() -> None:
    """Run the cases and print, or write, one row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cases",
        type=lambda text: [Case.parse(one) for one in text.split(",")],
        required=True,
    )
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--scene", default="etoile")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak-memory-of", choices=["stock", "ours"])
    arguments = parser.parse_args()
    if arguments.peak_memory_of:
        print(run_alone(arguments))
        return
    rows = []
    for case in arguments.cases:
        rows.append(run_case(case, arguments))
        print(json.dumps(rows[-1], indent=1), flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)


def run_alone(arguments) -> float:
    """Run one solver once and return this process's peak memory [MB]."""
    (case,) = arguments.cases
    scene = load(arguments.scene)
    ends = draw(scene, case.num_sources, case.num_targets, arguments.seed)
    if arguments.peak_memory_of == "stock":
        add_devices(scene, *ends)
        call = stock_call(scene, case)
    else:
        call = our_call(scene, case, ends, max_cached_chains=0)
    call()
    # Not getrusage(): its maximum is handed down from the parent process.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


if __name__ == "__main__":
    main()
