"""Ray tracing whose cost does not multiply by receivers."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from sionna.rt import Scene
from sionna.rt.path_solvers.field_calculator import FieldCalculator

from sionna_loc.channels.chain_forest import plant_forest
from sionna_loc.channels.chain_pairs import (
    Chains,
    find_chains,
    find_los,
    sort_targets,
)
from sionna_loc.channels.chain_tree import ChainTree, Search, shoot_trees
from sionna_loc.channels.device_arrays import to_points, to_rows
from sionna_loc.channels.path_field import fill_buffer, path_gains
from sionna_loc.channels.scene_facets import (
    SceneFacets,
    build_scene_facets,
    fingerprint,
)
from sionna_loc.checks import check, check_positive_int
from sionna_loc.constants import SPEED_OF_LIGHT

_MAX_CACHED_SCENES = 4


@dataclass(frozen=True)
class FlatPaths:
    """Paths of all links, one after the other.

    Sorted by source, then target; strongest first within a link.

    Args:
        source: [num_paths], int32. Index of the source.
        target: [num_paths], int32. Index of the target.
        gain: [num_paths], complex64. Amplitude gain, carrier phase included.
        delay: [num_paths], float32. Absolute time of flight in s.
        aod: [num_paths, 2], float32. (zenith, azimuth) at the source in rad.
        aoa: [num_paths, 2], float32. (zenith, azimuth) at the target in rad.
        num_interactions: [num_paths], int32. Reflections, 0 for line of sight.
    """

    source: np.ndarray
    target: np.ndarray
    gain: np.ndarray
    delay: np.ndarray
    aod: np.ndarray
    aoa: np.ndarray
    num_interactions: np.ndarray


class MultiUserPathSolver:
    """Find propagation paths between many transmitters and many receivers.

    Sionna's `PathSolver` tests each ray, at each bounce, against each receiver.
    This solver shoots rays from the transmitters only, keeps the distinct chains
    of mirrors they meet, and pairs chains with receivers by geometry.

    Args:
        max_rays: int > 0. Rays or candidate pairs in flight at a time. Bounds the
            working memory, at about 100 bytes each.
        max_cached_chains: int >= 0. Chains kept from call to call, by position of
            their transmitter, at 8 bytes each. 0 turns the cache off.
    """

    def __init__(
        self, max_rays: int = 4_000_000, max_cached_chains: int = 4_000_000
    ) -> None:
        check_positive_int("max_rays", max_rays)
        check(
            isinstance(max_cached_chains, int) and max_cached_chains >= 0,
            "`max_cached_chains` must be a whole number of 0 or more.",
            max_cached_chains=max_cached_chains,
        )
        self.max_rays = max_rays
        self.max_cached_chains = max_cached_chains
        self._facets: OrderedDict[bytes, SceneFacets] = OrderedDict()
        self._trees: OrderedDict[tuple, ChainTree] = OrderedDict()
        self._num_cached_chains = 0
        self._field_calculator = FieldCalculator()

    def trace(
        self,
        scene: Scene,
        source_positions: np.ndarray,
        target_positions: np.ndarray,
        max_depth: int = 3,
        samples_per_src: int = 10_000,
        los: bool = True,
        specular_reflection: bool = True,
        refraction: bool = False,
        seed: int = 42,
    ) -> FlatPaths:
        """Trace the paths between positions, whatever devices the scene has.

        Antennas are the first elements of `scene.tx_array` and `scene.rx_array`,
        unrotated. Equal arguments give bit-identical paths.

        Args:
            scene: Sionna scene with both antenna arrays set.
            source_positions: [num_sources, 3], float, in m.
            target_positions: [num_targets, 3], float, in m.
            max_depth: Interactions a path has at most.
            samples_per_src: Rays shot from each source.
            los: Whether to look for line-of-sight paths.
            specular_reflection: Whether paths may be reflected.
            refraction: Whether paths may pass through walls.
            seed: Changes nothing: the rays' directions are a fixed lattice. It is
                here as the argument of Sionna's solver.

        Returns: the paths of all links; none for links in outage.
        """
        sources = _check_positions("source_positions", source_positions)
        targets = _check_positions("target_positions", target_positions)
        _check_search(scene, max_depth, samples_per_src)
        search = Search(samples_per_src, max_depth, specular_reflection, refraction)
        parts = self._find(scene.mi_scene, sources, targets, search, los)
        return self._flatten(scene, parts, sources, targets, max_depth)

    def _find(self, mi_scene, sources, targets, search, los) -> list[Chains]:
        """Return the geometry of all paths, in parts of one depth each."""
        if len(sources) == 0 or len(targets) == 0:
            return []
        parts = []
        if los:
            parts.append(find_los(mi_scene, sources, targets, self.max_rays))
        if search.max_depth * search.num_branches == 0 or not mi_scene.shapes():
            return parts
        facets, digest = self._scene_facets(mi_scene)
        trees = self._chain_trees(mi_scene, facets, digest, sources, search)
        forest, blocks = plant_forest(trees, sources, facets), sort_targets(targets)
        for depth in range(1, len(forest) + 1):
            parts += find_chains(
                mi_scene, facets, forest, depth, sources, targets, blocks, self.max_rays
            )
        return parts

    def _scene_facets(self, mi_scene) -> tuple[SceneFacets, bytes]:
        """Return the scene's facets and its digest; build them if it changed."""
        digest = fingerprint(mi_scene)
        if digest not in self._facets:
            self._facets[digest] = build_scene_facets(mi_scene)
            if len(self._facets) > _MAX_CACHED_SCENES:
                self._facets.popitem(last=False)
        self._facets.move_to_end(digest)
        return self._facets[digest], digest

    def _chain_trees(
        self, mi_scene, facets, digest, sources, search
    ) -> list[ChainTree]:
        """Return the tree of each source, shooting only from unknown positions."""
        keys = [(digest, search, one.tobytes()) for one in sources]
        known = {key: self._trees[key] for key in keys if key in self._trees}
        new = {
            key: place
            for key, place in zip(keys, sources, strict=True)
            if key not in known
        }
        if new:
            trees = shoot_trees(
                mi_scene,
                facets,
                np.stack(list(new.values())),
                search,
                self.max_rays,
            )
            known.update(zip(new, trees, strict=True))
        self._remember(known)
        return [known[key] for key in keys]

    def _remember(self, trees: dict[tuple, ChainTree]) -> None:
        """Put trees at the fresh end of the cache and drop the stalest."""
        for key, tree in trees.items():
            if key not in self._trees:
                self._num_cached_chains += tree.num_nodes
            self._trees[key] = tree
            self._trees.move_to_end(key)
        while self._trees and self._num_cached_chains > self.max_cached_chains:
            _, tree = self._trees.popitem(last=False)
            self._num_cached_chains -= tree.num_nodes

    def _flatten(self, scene, parts, sources, targets, max_depth) -> FlatPaths:
        """Compute the field and sort the paths by link and strength."""
        parts = [part for part in parts if len(part.source)]
        if not parts:
            return _no_paths()
        buffer = fill_buffer(parts, sources, targets, max_depth)
        gain = path_gains(
            scene,
            self._field_calculator,
            buffer,
            to_points(sources),
            to_points(targets),
        )
        source = np.concatenate([part.source for part in parts])
        target = np.concatenate([part.target for part in parts])
        delay = np.concatenate([part.length for part in parts]) / SPEED_OF_LIGHT
        turns = np.mod(float(scene.frequency.numpy()[0]) * delay, 1.0)
        gain *= np.exp(-2j * np.pi * turns)
        depth = [np.full(len(p.source), p.vertices.shape[1], np.int32) for p in parts]
        link = source.astype(np.int64) * len(targets) + target
        order = np.lexsort((-np.abs(gain), link))
        order = order[np.abs(gain[order]) > 0]
        return FlatPaths(
            source=source[order],
            target=target[order],
            gain=gain[order],
            delay=delay[order].astype(np.float32),
            aod=to_rows(buffer.theta_t, buffer.phi_t)[order],
            aoa=to_rows(buffer.theta_r, buffer.phi_r)[order],
            num_interactions=np.concatenate(depth)[order],
        )


def _no_paths() -> FlatPaths:
    """Return no paths, with the right shapes and types."""
    return FlatPaths(
        source=np.empty(0, np.int32),
        target=np.empty(0, np.int32),
        gain=np.empty(0, np.complex64),
        delay=np.empty(0, np.float32),
        aod=np.empty((0, 2), np.float32),
        aoa=np.empty((0, 2), np.float32),
        num_interactions=np.empty(0, np.int32),
    )


def _check_positions(name: str, positions: np.ndarray) -> np.ndarray:
    """Return positions as finite [n, 3] float32, or raise `UserError`."""
    positions = np.asarray(positions, np.float32)
    check(
        positions.ndim == 2 and positions.shape[1] == 3,
        f"`{name}` must have the shape [n, 3].",
        **{f"{name}.shape": positions.shape},
    )
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        check(
            False,
            f"`{name}` must be finite, and row {bad[0]} is not.",
            **{name: positions[bad[0]].tolist()},
        )
    return np.ascontiguousarray(positions)


def _check_search(scene: Scene, max_depth: int, samples_per_src: int) -> None:
    """Raise `UserError` unless the scene and the search's extent make sense."""
    for name in ("tx_array", "rx_array"):
        check(
            getattr(scene, name) is not None,
            f"`scene.{name}` must be set: it says which antennas to use.",
            **{f"scene.{name}": None},
        )
    check(
        isinstance(max_depth, int) and max_depth >= 0,
        "`max_depth` must be a whole number of 0 or more.",
        max_depth=max_depth,
    )
    check(
        isinstance(samples_per_src, int) and samples_per_src >= 2,
        "`samples_per_src` must be a whole number of 2 or more.",
        samples_per_src=samples_per_src,
    )


__all__ = ["FlatPaths", "MultiUserPathSolver"]
