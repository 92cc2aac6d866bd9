"""Ray tracing whose cost does not multiply by receivers."""

import itertools
import warnings

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt import Paths, PathSolver, Scene
from sionna.rt.path_solvers.paths_buffer import PathsBuffer

from sionna_loc.channels.chain_tree import Search
from sionna_loc.channels.chains import Chains
from sionna_loc.channels.device_arrays import to_device
from sionna_loc.channels.flat_paths import FlatPaths
from sionna_loc.channels.path_field import (
    attach_vertices,
    calculate_gains,
    compute_field,
    end_angles,
    fill_buffer,
)
from sionna_loc.channels.path_finder import PathFinder
from sionna_loc.channels.radio_ends import RadioEnds, read_devices
from sionna_loc.channels.slab_field import SlabTable, slab_gains
from sionna_loc.checks import check, check_not_negative_int, check_positive_int
from sionna_loc.constants import SPEED_OF_LIGHT


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
        differentiable: bool. Whether the `Paths` of a call carry gradients with
            respect to positions and materials, by Sionna's image method. Slower.
    """

    def __init__(
        self,
        max_rays: int = 4_000_000,
        max_cached_chains: int = 4_000_000,
        differentiable: bool = False,
    ) -> None:
        check_positive_int("max_rays", max_rays)
        check_not_negative_int("max_cached_chains", max_cached_chains)
        self.differentiable = differentiable
        self._finder = PathFinder(max_rays, max_cached_chains)
        self._stock_solver: PathSolver | None = None

    def __call__(
        self,
        scene: Scene,
        max_depth: int = 3,
        max_num_paths_per_src: int = 1_000_000,
        samples_per_src: int = 1_000_000,
        synthetic_array: bool = True,
        los: bool = True,
        specular_reflection: bool = True,
        diffuse_reflection: bool = False,
        refraction: bool = True,
        diffraction: bool = False,
        edge_diffraction: bool = False,
        diffraction_lit_region: bool = True,
        seed: int = 42,
    ) -> Paths:
        """Compute the paths between a scene's devices, as Sionna's `PathSolver`.

        Diffuse reflection and diffraction are left to Sionna's solver.

        Args:
            scene: Sionna scene with devices and antenna arrays.
            max_depth: Interactions a path has at most.
            max_num_paths_per_src: Paths kept for each source: the strongest ones.
            samples_per_src: Rays shot from each source.
            synthetic_array: Whether arrays are applied by phase shifts; otherwise
                each element is a source or target of its own.
            los: Whether to look for line-of-sight paths.
            specular_reflection: Whether paths may be reflected specularly.
            diffuse_reflection: Whether paths may be scattered.
            refraction: Whether paths may pass through walls.
            diffraction: Whether paths may be diffracted.
            edge_diffraction: Whether free edges diffract.
            diffraction_lit_region: Whether to diffract into the lit region.
            seed: Used by Sionna's solver only.

        Returns: Sionna's `Paths`.
        """
        if diffuse_reflection or diffraction:
            return self._call_stock(
                scene,
                max_depth=max_depth,
                max_num_paths_per_src=max_num_paths_per_src,
                samples_per_src=samples_per_src,
                synthetic_array=synthetic_array,
                los=los,
                specular_reflection=specular_reflection,
                diffuse_reflection=diffuse_reflection,
                refraction=refraction,
                diffraction=diffraction,
                edge_diffraction=edge_diffraction,
                diffraction_lit_region=diffraction_lit_region,
                seed=seed,
            )
        scene.all_set(radio_map=False)
        check_positive_int("max_num_paths_per_src", max_num_paths_per_src)
        _check_search(scene, max_depth, samples_per_src)
        search = Search(samples_per_src, max_depth, specular_reflection, refraction)
        sources, targets = self._read_ends(scene, synthetic_array)
        ends = sources.host_position, targets.host_position
        groups = self._finder.find(scene.mi_scene, *ends, search, los)
        paths = Chains.join([*itertools.chain(*groups)], max(1, max_depth))
        buffer = fill_buffer(paths, *ends, max_depth)
        if self.differentiable:
            attach_vertices(scene, buffer, sources, targets)
        compute_field(scene, buffer, sources, targets, self._loop_mode)
        _keep_strongest(buffer, max_num_paths_per_src)
        return Paths(
            scene,
            sources.position,
            targets.position,
            sources.velocity,
            targets.velocity,
            synthetic_array,
            buffer,
            sources.element_position,
            targets.element_position,
        )

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
        slabs, pieces = SlabTable.read(scene), []
        for parts in self._finder.find(scene.mi_scene, sources, targets, search, los):
            paths = Chains.join(parts, max(1, max_depth))
            if len(paths.source):
                if slabs is None:
                    gain = calculate_gains(scene, paths, sources, targets)
                else:
                    gain = slab_gains(scene, slabs, paths, sources, targets)
                pieces.append(_flatten(scene, paths, gain, sources, targets))
        return FlatPaths.join(pieces)

    def _call_stock(self, scene: Scene, **options) -> Paths:
        """Call Sionna's solver, and say so the first time."""
        if self._stock_solver is None:
            warnings.warn(
                "Diffuse reflection and diffraction are left to Sionna's PathSolver, "
                "whose cost multiplies by the number of receivers.",
                stacklevel=3,
            )
            self._stock_solver = PathSolver()
        self._stock_solver.loop_mode = self._loop_mode
        return self._stock_solver(scene, **options)

    @property
    def _loop_mode(self) -> str:
        """How Dr.Jit runs loops: symbolic ones are faster, but carry no gradients."""
        return "evaluated" if self.differentiable else "symbolic"

    def _read_ends(
        self, scene: Scene, synthetic_array: bool
    ) -> tuple[RadioEnds, RadioEnds]:
        """Return sources and targets; those of Sionna if they carry gradients."""
        if self.differentiable:
            return (
                RadioEnds(*scene.sources(synthetic_array, True)),
                RadioEnds(*scene.targets(synthetic_array, True)),
            )
        options = scene.wavelength, synthetic_array
        return (
            read_devices(scene.transmitters.values(), scene.tx_array, *options),
            read_devices(scene.receivers.values(), scene.rx_array, *options),
        )


def _flatten(scene: Scene, paths: Chains, gain, sources, targets) -> FlatPaths:
    """Return paths with the carrier phase of their lengths, exact in float64."""
    delay = paths.length / SPEED_OF_LIGHT
    turns = np.mod(float(scene.frequency[0]) * delay, 1.0)
    departure, arrival = end_angles(paths, sources, targets)
    return FlatPaths.sort(
        num_targets=len(targets),
        source=paths.source,
        target=paths.target,
        gain=(gain * np.exp(-2j * np.pi * turns)).astype(np.complex64),
        delay=delay.astype(np.float32),
        aod=departure,
        aoa=arrival,
        num_interactions=paths.depth.astype(np.int32),
    )


def _keep_strongest(buffer: PathsBuffer, max_num_paths_per_src: int) -> None:
    """Drop paths without a gain, and the weakest where a source has too many."""
    if buffer.buffer_size == 0:
        return
    source = buffer.source_indices.numpy()
    if np.bincount(source).max() > max_num_paths_per_src:
        gains = [dr.squared_norm(dr.detach(one)) for row in buffer.a for one in row]
        power = sum(gains).numpy()
        order = np.lexsort((-power, source))
        start = np.searchsorted(source[order], source[order])
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - start
        buffer.valid &= to_device(rank < max_num_paths_per_src, mi.Bool)
    buffer.discard_invalid()


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
    check_not_negative_int("max_depth", max_depth)
    check(
        isinstance(samples_per_src, int) and samples_per_src >= 2,
        "`samples_per_src` must be a whole number of 2 or more.",
        samples_per_src=samples_per_src,
    )


__all__ = ["FlatPaths", "MultiUserPathSolver"]
