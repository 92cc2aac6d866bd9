"""Sionna RT's own `PathSolver` behind the call of `MultiUserPathSolver`.

Its cost multiplies by the number of receivers; it is kept as the reference, and for
interactions that the fast solver does not know. Positions go in as arrays, because
`scene.sources()` bakes each device's position into a kernel of its own.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from sionna_loc.channels.flat_paths import FlatPaths

_MAX_PATHS_PER_SOURCE = 100_000
_MAX_DIFFRACTED_PER_SOURCE = 1_000_000
"""Candidates of a source, of which diffraction makes many more than reflection."""


class StockPathSolver:
    """Traces all links with Sionna RT's own solver; on the tracer thread only."""

    def __init__(self) -> None:
        from sionna.rt import PathSolver

        self._solver = PathSolver()

    def trace(
        self,
        scene: Any,
        source_positions: np.ndarray,
        target_positions: np.ndarray,
        *,
        max_depth: int = 3,
        samples_per_src: int = 10_000,
        los: bool = True,
        specular_reflection: bool = True,
        diffraction: bool = False,
        seed: int = 42,
    ) -> FlatPaths:
        """Return the paths from [num_sources, 3] to [num_targets, 3] positions [m].

        With `diffraction`, a path may besides bend once around an edge of a wedge. On
        the CPU that takes one core: with several, the order of the candidates, and with
        it which of them are dropped, is another one each time.
        """
        with _one_core() if diffraction else contextlib.nullcontext():
            return self._trace(
                scene,
                source_positions,
                target_positions,
                max_depth=max_depth,
                samples_per_src=samples_per_src,
                los=los,
                specular_reflection=specular_reflection,
                diffraction=diffraction,
                seed=seed,
            )

    def _trace(
        self,
        scene: Any,
        source_positions: np.ndarray,
        target_positions: np.ndarray,
        *,
        samples_per_src: int,
        diffraction: bool,
        **options: Any,
    ) -> FlatPaths:
        """See `trace`."""
        import drjit as dr
        import mitsuba as mi

        sources = mi.Point3f(source_positions.T)
        targets = mi.Point3f(target_positions.T)
        # The parts of `PathSolver.__call__`, with positions given as arrays.
        buffer = self._solver._candidate_generator(
            mi_scene=scene.mi_scene,
            src_positions=sources,
            tgt_positions=targets,
            samples_per_src=samples_per_src,
            max_num_paths_per_src=(
                _MAX_DIFFRACTED_PER_SOURCE if diffraction else _MAX_PATHS_PER_SOURCE
            ),
            diffuse_reflection=False,
            refraction=False,
            diffraction=diffraction,
            edge_diffraction=False,
            **options,
        )
        buffer.schedule()
        dr.eval()
        buffer.shrink()
        buffer.detach_geometry()
        if buffer.buffer_size == 0:
            return FlatPaths.none()
        buffer = self._solver._image_method(
            scene=scene.mi_scene,
            paths=buffer,
            src_positions=sources,
            tgt_positions=targets,
            diffraction=diffraction,
            diffraction_lit_region=True,
        )
        buffer = self._solver._field_calculator(
            wavelength=scene.wavelength,
            paths=buffer,
            samples_per_src=samples_per_src,
            diffraction=diffraction,
            src_positions=sources,
            tgt_positions=targets,
            src_orientations=dr.zeros(mi.Point3f, len(source_positions)),
            tgt_orientations=dr.zeros(mi.Point3f, len(target_positions)),
            src_antenna_patterns=scene.tx_array.antenna_pattern.patterns,
            tgt_antenna_patterns=scene.rx_array.antenna_pattern.patterns,
        )
        buffer.discard_invalid()
        return _from_buffer(buffer, len(target_positions), float(scene.frequency[0]))


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Let Dr.Jit compute in order; on a GPU it has no say in that."""
    import drjit as dr

    count = dr.thread_count()
    dr.set_thread_count(1)
    try:
        yield
    finally:
        dr.set_thread_count(count)


def _from_buffer(buffer: Any, num_targets: int, frequency: float) -> FlatPaths:
    """Copy Sionna's path buffer to NumPy and put in the carrier phase."""
    amplitude = buffer.a[0][0]
    delay = buffer.tau.numpy()
    phase = -2 * np.pi * frequency * delay.astype(np.float64)
    gain = (amplitude.real.numpy() + 1j * amplitude.imag.numpy()) * np.exp(1j * phase)
    # [num_paths, max_depth], 0 where there is no interaction.
    num_interactions = (buffer.interaction_types.numpy() != 0).sum(axis=1)
    return FlatPaths.sort(
        num_targets,
        source=buffer.source_indices.numpy().astype(np.int32),
        target=buffer.target_indices.numpy().astype(np.int32),
        gain=gain.astype(np.complex64),
        delay=delay,
        aod=np.stack([buffer.theta_t.numpy(), buffer.phi_t.numpy()], axis=-1),
        aoa=np.stack([buffer.theta_r.numpy(), buffer.phi_r.numpy()], axis=-1),
        num_interactions=num_interactions.astype(np.int32),
    )
