"""How well places agree with the paths of all links."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from sionna_loc.checks import check_positive, check_positive_int
from sionna_loc.layers.angle_spectrum import array_of, share_from
from sionna_loc.layers.back_projection import ways
from sionna_loc.layers.peaks import strongest_peaks

_EARLY = 1.5  # taps by which the direct path may seem to come too late
_FAR_IMAGE = 1e4  # taps from the TRP; farther away is none, see `WallImages`
_FAR = 1e6  # taps, farther than any path: where a minimum begins
_TOO_LATE = 10.0  # taps after which it is as impossible as can be


@keras.saving.register_keras_serializable(package="sionna_loc")
class PathAgreement(keras.layers.Layer):
    """Share of the peaks of the CIRs that a UE at a place would have.

    A UE at a place hears each TRP, and each image of a TRP in a wall, after a known
    delay. Peaks of the CIR at one of these delays agree with the place; what is
    missing on the way, as most images do somewhere, says nothing. But no path is
    shorter than the direct one: where that would come after the first peak, the UE
    cannot be.

    With the `array` of a UE, a peak also has to arrive from where the TRP or the image
    would be: it agrees by the share of its power that does.

    Nothing is trained.

    Args:
        taps_per_unit: float > 0. Taps in a unit of the positions.
        num_peaks: int > 0. Peaks of each CIR, the strongest.
        array: arguments of `antennas.PlanarArray`, of the UE, or None.

    Call arguments:
        points: [batch, num_points, 3], float.
        magnitude: [batch, num_trps, num_taps], float. In dB, 1 being 60 dB, see
            `CirScaling`.
        trp_position: [batch, num_trps, 3], float.
        image_position: [batch, num_trps, num_images, 3], float.
        trp_mask: [batch, num_trps], bool. TRPs that are heard.
        spectrum: [batch, num_trps, num_taps, num_terms], float. Of `AngleSpectrum`;
            None for delays alone.
        tolerance: float > 0 [taps]. From a peak to a delay that agrees with it; or
            several, each of which gives a value.

    Returns: [batch, num_points], float, from -1 to 1: the mean over the TRPs of the
        share of the peaks that agree, less how impossible the direct path is;
        [batch, num_points, num_tolerances] with several tolerances.
    Raises: UserError (a ValueError) if an argument is not positive.
    """

    def __init__(
        self,
        taps_per_unit: float,
        num_peaks: int = 4,
        array: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive("taps_per_unit", taps_per_unit)
        check_positive_int("num_peaks", num_peaks)
        self.taps_per_unit = taps_per_unit
        self.num_peaks = num_peaks
        self.array = array
        self._array = array_of(array)
        self.built = True

    def call(
        self,
        points: keras.KerasTensor,
        magnitude: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        image_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
        spectrum: keras.KerasTensor | None = None,
        tolerance: float | Sequence[float] = 1.5,
    ) -> keras.KerasTensor:
        """Compare."""
        tap, weight = strongest_peaks(magnitude, self.num_peaks)
        rows = None
        if spectrum is not None:
            nearest = ops.cast(ops.floor(tap + 0.5), "int32")[..., None]
            rows = ops.take_along_axis(spectrum, nearest, axis=2)[..., None, :]
        # Points come last below: along them, all is the same arithmetic.
        tap, weight = tap[..., None], weight[..., None]
        sources = ops.concatenate([trp_position[:, :, None], image_position], axis=2)

        def apart_from(index: Any) -> tuple[Any, Any, Any]:
            way = ways(ops.take(sources, index, axis=2), points)
            distance, east, north = (x[:, :, None] for x in way[:3])
            return ops.abs(distance * self.taps_per_unit - tap), east, north

        def nearer(index: Any, nearest: Any) -> Any:
            return ops.minimum(nearest, apart_from(index)[0])

        def better(tolerance: float, index: Any, agrees: Any) -> Any:
            apart, east, north = apart_from(index)
            # From the UE, that is: `ways` go to it.
            share = share_from(rows, self._array, -east, -north)[..., 0]
            return ops.maximum(agrees, ops.exp(-ops.square(apart / tolerance)) * share)

        # Loops, as one source after the other takes long to compile.
        tolerances = tolerance if isinstance(tolerance, Sequence) else [tolerance]
        shape = (*ops.shape(tap)[:3], ops.shape(points)[1])
        count = 1 + self._num_images(trp_position, image_position)
        if rows is None:
            nearest = ops.full(shape, _FAR, tap.dtype)
            nearest = ops.fori_loop(0, count, nearer, nearest)
            agrees = [ops.exp(-ops.square(nearest / one)) for one in tolerances]
        else:
            none = ops.zeros(shape, tap.dtype)
            steps = [functools.partial(better, one) for one in tolerances]
            agrees = [ops.fori_loop(0, count, step, none) for step in steps]
        first = ops.min(ops.where(weight > 0, tap, float(magnitude.shape[2])), axis=2)
        direct, *_ = ways(trp_position, points)  # [batch, num_trps, num_points]
        late = (direct * self.taps_per_unit - first - _EARLY) / _TOO_LATE
        late = ops.clip(late, 0.0, 1.0)
        there = ops.cast(trp_mask, late.dtype)[..., None]
        whole, num_heard = ops.sum(weight, axis=2) + 1e-6, ops.sum(there, axis=1) + 1e-6
        values = [
            ops.sum((ops.sum(one * weight, axis=2) / whole - late) * there, axis=1)
            / num_heard
            for one in agrees
        ]
        return values[0] if tolerances is not tolerance else ops.stack(values, axis=-1)

    def _num_images(
        self, trp_position: keras.KerasTensor, image_position: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return how many images there are, up to the last one that is not too far."""
        away = ops.abs(image_position[..., 0] - trp_position[..., None, 0])
        near = away * self.taps_per_unit < _FAR_IMAGE
        last = ops.cast(ops.any(near, axis=(0, 1)), "int32")  # [num_images]
        index = ops.arange(1, image_position.shape[2] + 1, dtype="int32")
        return ops.max(last * index, initial=0)

    def compute_output_shape(
        self, points_shape: tuple[int | None, ...], *_: Any
    ) -> tuple[int | None, ...]:
        """Return [batch, num_points], that of a single tolerance."""
        return points_shape[:2]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "taps_per_unit": self.taps_per_unit,
            "num_peaks": self.num_peaks,
            "array": self.array,
        }
