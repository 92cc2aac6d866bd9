"""The geometry of all paths between two sets of points, with its caches."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

import mitsuba as mi
import numpy as np

from sionna_loc.channels.chain_forest import plant_forest
from sionna_loc.channels.chain_pairs import find_chains
from sionna_loc.channels.chain_tree import ChainTree, Search, shoot_trees
from sionna_loc.channels.chains import Chains
from sionna_loc.channels.scene_facets import (
    SceneFacets,
    build_scene_facets,
    fingerprint,
)
from sionna_loc.channels.target_blocks import sort_targets

_MAX_CACHED_SCENES = 4

_RAYS_PER_CHAIN = 8
"""Memory of a chain with its beam and its paths, in that of a ray in flight."""


class PathFinder:
    """Finds paths; remembers scenes by their geometry, and chains by their source.

    Args:
        max_rays: int > 0. Rays or candidate pairs in flight at a time.
        max_cached_chains: int >= 0. Chains kept from call to call.
    """

    def __init__(self, max_rays: int, max_cached_chains: int) -> None:
        self.max_rays = max_rays
        self.max_cached_chains = max_cached_chains
        self._facets: OrderedDict[bytes, SceneFacets] = OrderedDict()
        self._trees: OrderedDict[tuple, ChainTree] = OrderedDict()
        self._num_cached_chains = 0

    def find(
        self,
        mi_scene: mi.Scene,
        sources: np.ndarray,
        targets: np.ndarray,
        search: Search,
        los: bool,
    ) -> Iterator[list[Chains]]:
        """Find the geometry of all paths.

        Args:
            mi_scene: Scene with the walls.
            sources: [num_sources, 3], float32, in m.
            targets: [num_targets, 3], float32, in m.
            search: How far to look for chains.
            los: Whether to look for line-of-sight paths.

        Yields: the paths of some sources after the other, in parts.
        """
        if len(sources) == 0 or len(targets) == 0:
            return
        blocks = sort_targets(targets)
        facets, trees = SceneFacets.none(), [ChainTree((), ())] * len(sources)
        if search.max_depth * search.num_branches and mi_scene.shapes():
            facets, digest = self._scene_facets(mi_scene)
            trees = self._chain_trees(mi_scene, facets, digest, sources, search)
        for low, high in _groups(trees, self.max_rays // _RAYS_PER_CHAIN):
            forest = plant_forest(trees[low:high], sources[low:high], facets)
            parts = find_chains(
                mi_scene, facets, forest, targets, blocks, los, self.max_rays
            )
            yield [replace(part, source=part.source + np.int32(low)) for part in parts]

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


def _groups(trees: list[ChainTree], max_chains: int) -> Iterator[tuple[int, int]]:
    """Yield stretches of trees with `max_chains` at most, but one tree at least."""
    low, count = 0, 0
    for place, tree in enumerate(trees):
        if place > low and count + tree.num_nodes > max_chains:
            yield low, place
            low, count = place, 0
        count += tree.num_nodes
    yield low, len(trees)
