"""Ray-traced channels: Sionna RT, owned by one thread, callable from any graph."""

import importlib.metadata
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.channels.base import LINK_FIELDS, Channel
from sionna_loc.channels.flat_paths import FlatPaths
from sionna_loc.checks import check, check_known, check_positive, check_positive_int
from sionna_loc.places.sionna_scene import SionnaScene
from sionna_loc.places.tracer_thread import TRACER_THREAD
from sionna_loc.sample import FIELDS

CHANNEL_VERSION = 2
"""Raised whenever the same positions give other paths; part of the fingerprint."""

SOLVERS = ("multi_user", "stock")

_SOLVER_SEED = 42
"""Seed of the rays' directions: the same for every drop, so that the paths are a
pure function of the positions."""


class RayTracer(Channel):
    """Line of sight, specular reflections and diffraction in a scene of Sionna RT.

    Works eagerly, in `tf.function` and in `Dataset.map`, from any thread. An
    exception in the solver comes out of the graph with its type and text.

    Args:
        scene: the place.
        num_paths: int > 0. Paths kept per link, the strongest ones.
        max_depth: int > 0. Most reflections of a path.
        samples_per_src: int > 0. Rays shot per TRP to find the reflecting walls.
        max_delay: float > 0 [s] or None. Later paths do not count: they are beyond
            what the receiver records.
        solver: `"multi_user"`, or `"stock"` for Sionna RT's own.
        diffraction: bool. Whether a path may bend once around an edge, which the stock
            solver alone can trace.
        max_path_loss_db: float > 0 [dB] or None. A link whose paths together lose more
            does not exist: it has no paths.
    """

    def __init__(
        self,
        scene: SionnaScene,
        *,
        num_paths: int,
        max_depth: int = 3,
        samples_per_src: int = 10_000,
        max_delay: float | None = None,
        solver: str = "multi_user",
        diffraction: bool = False,
        max_path_loss_db: float | None = None,
    ) -> None:
        check_positive_int("num_paths", num_paths)
        check_positive_int("max_depth", max_depth)
        check_positive_int("samples_per_src", samples_per_src)
        if max_delay is not None:
            check_positive("max_delay", max_delay)
        check_known("solver", solver, SOLVERS)
        check(
            solver == "stock" or not diffraction,
            "Only the stock solver traces diffraction.",
            solver=solver,
        )
        if max_path_loss_db is not None:
            check_positive("max_path_loss_db", max_path_loss_db)
        super().__init__(num_paths)
        self.scene = scene
        self.max_depth = max_depth
        self.samples_per_src = samples_per_src
        self.max_delay = max_delay
        self.solver = solver
        self.diffraction = diffraction
        self.max_path_loss_db = max_path_loss_db
        self._solver: Any = None

    def __call__(
        self, trp_position: tf.Tensor, ue_position: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """See `Channel`; nothing here is random, so the seed changes nothing."""
        del seed
        types = [FIELDS[name].dtype for name in LINK_FIELDS]
        values = tf.numpy_function(self._call, [trp_position, ue_position], types)
        links = [ue_position.shape[0], trp_position.shape[0]]
        paths = {}
        for name, value in zip(LINK_FIELDS, values, strict=True):
            shape = FIELDS[name].element_shape(self.num_paths)
            paths[name] = tf.ensure_shape(value, [*links, *shape[1:]])
        return paths

    def config(self) -> dict[str, Any]:
        """Return everything that changes the paths, as JSON can hold it.

        What is not in use has no entry, as it had none before it could be.
        """
        further = {
            "diffraction": self.diffraction or None,
            # Diffracted paths of before hung on the number of cores.
            "in_order": self.diffraction or None,
            "max_path_loss_db": self.max_path_loss_db,
        }
        return {
            "channel": "RayTracer",
            "version": CHANNEL_VERSION,
            "scene": self.scene.name,
            "carrier_frequency": self.scene.carrier_frequency,
            "num_paths": self.num_paths,
            "max_depth": self.max_depth,
            "samples_per_src": self.samples_per_src,
            "max_delay": self.max_delay,
            "solver": self.solver,
            "solver_seed": _SOLVER_SEED,
            "sionna_rt": importlib.metadata.version("sionna-rt"),
            **{name: value for name, value in further.items() if value is not None},
        }

    def trace(self, trp_position: np.ndarray, ue_position: np.ndarray) -> FlatPaths:
        """Return all paths of all links as flat arrays, TRPs as sources.

        Args:
            trp_position: [num_trps, 3], float [m].
            ue_position: [num_ues, 3], float [m].
        """
        return TRACER_THREAD.call(
            self._trace,
            _as_positions("trp_position", trp_position),
            _as_positions("ue_position", ue_position),
        )

    def _call(
        self, trp_position: np.ndarray, ue_position: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Trace a drop and return the `LINK_FIELDS` of all links."""
        flat = self.trace(trp_position, ue_position)
        links = group_by_link(
            flat,
            num_trps=len(trp_position),
            num_ues=len(ue_position),
            num_paths=self.num_paths,
            max_delay=self.max_delay,
            max_path_loss_db=self.max_path_loss_db,
        )
        return tuple(links[name] for name in LINK_FIELDS)

    def _trace(self, sources: np.ndarray, targets: np.ndarray) -> FlatPaths:
        """See `trace`; on the tracer thread."""
        if self._solver is None:
            self._solver = _make_solver(self.solver)
        interactions = {"diffraction": True} if self.diffraction else {}
        return self._solver.trace(
            self.scene.scene,
            sources,
            targets,
            max_depth=self.max_depth,
            samples_per_src=self.samples_per_src,
            los=True,
            specular_reflection=True,
            seed=_SOLVER_SEED,
            **interactions,
        )


def group_by_link(
    flat: FlatPaths,
    *,
    num_trps: int,
    num_ues: int,
    num_paths: int,
    max_delay: float | None = None,
    max_path_loss_db: float | None = None,
) -> dict[str, np.ndarray]:
    """Turn flat paths into one dense array per field of the sample contract.

    Args:
        flat: paths sorted by (source, target), strongest first; sources are TRPs.
        num_trps: number of sources.
        num_ues: number of targets.
        num_paths: int > 0. Paths kept per link.
        max_delay: float > 0 [s] or None. Later paths are left out.
        max_path_loss_db: float > 0 [dB] or None. Links that lose more are left out.

    Returns: dict of `LINK_FIELDS`, each [num_ues, num_trps, ...] as in `Channel`.
    """
    links = num_ues, num_trps
    limit = np.inf if max_delay is None else max_delay
    path = np.flatnonzero(flat.delay <= limit)
    link = flat.target[path].astype(np.int64) * num_trps + flat.source[path]
    if max_path_loss_db is not None:
        power = np.bincount(link, np.abs(flat.gain[path]) ** 2.0, num_ues * num_trps)
        is_strong = (power >= 10 ** (-max_path_loss_db / 10))[link]
        path, link = path[is_strong], link[is_strong]
    index = np.arange(len(path))
    is_first = np.ones(len(link), bool)
    is_first[1:] = link[1:] != link[:-1]
    rank = index - np.maximum.accumulate(np.where(is_first, index, 0))
    kept = rank < num_paths
    place = link[kept] * num_paths + rank[kept]

    def spread(values: np.ndarray, dtype: str) -> np.ndarray:
        dense = np.zeros((num_ues * num_trps * num_paths, *values.shape[1:]), dtype)
        dense[place] = values[path[kept]]
        return dense.reshape(*links, num_paths, *values.shape[1:])

    los = np.zeros(num_ues * num_trps, bool)
    los[link[flat.num_interactions[path] == 0]] = True
    count = np.bincount(link, minlength=num_ues * num_trps)
    return {
        "path_gain": spread(flat.gain, "complex64"),
        "path_delay": spread(flat.delay, "float32"),
        "path_aoa": spread(flat.aoa, "float32"),
        "path_aod": spread(flat.aod, "float32"),
        "num_paths": np.minimum(count, num_paths).astype(np.int32).reshape(links),
        "los": los.reshape(links),
    }


def _make_solver(name: str) -> Any:
    """Build the solver called `name`; on the tracer thread."""
    if name == "stock":
        from sionna_loc.channels.stock_solver import StockPathSolver

        return StockPathSolver()
    from sionna_loc.channels.path_solver import MultiUserPathSolver

    # Every drop has TRPs of its own: nothing found for one helps another.
    return MultiUserPathSolver(max_cached_chains=0)


def _as_positions(name: str, value: np.ndarray) -> np.ndarray:
    """Return `value` as float32 [n, 3] or raise `UserError`."""
    value = np.asarray(value, np.float32)
    check(
        value.ndim == 2 and value.shape[1] == 3 and len(value) > 0,
        f"`{name}` must have shape [n, 3] with n > 0.",
        shape=value.shape,
    )
    check(bool(np.isfinite(value).all()), f"`{name}` must be finite.", **{name: value})
    return value
