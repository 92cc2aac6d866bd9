"""Refinement of a position estimate by what each CIR says about its distance."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from sionna_loc.checks import (
    check_bool,
    check_not_negative_int,
    check_positive,
    check_positive_int,
)
from sionna_loc.layers.angle_spectrum import array_of
from sionna_loc.layers.delay_view import DelayView
from sionna_loc.layers.place_map import PlaceView
from sionna_loc.layers.transformer import EncoderBlock


class _Seen(NamedTuple):
    """What a step of refinement sees of all links, where it expects something.

    Attributes:
        direct: features of the direct way, each [batch, num_trps, ...].
        others: features of what else is known, each [batch, num_trps, ...].
        ways: [batch, num_trps, num_ways, 3]. Directions to TRP and images.
        longer: [batch, num_trps, num_ways], scaled. By how much the way that the next
            peak has come is longer; None without peaks.
        near: [batch, num_trps, num_ways]. How near it is, from 0 to 1.
    """

    direct: list[Any]
    others: list[Any]
    ways: Any
    longer: Any = None
    near: Any = None


@keras.saving.register_keras_serializable(package="sionna_loc")
class PositionRefiner(keras.layers.Layer):
    """One learned Gauss-Newton step from a position estimate to a better one.

    If the estimate were right and a link in line of sight, its CIR would begin at the
    tap of the distance from estimate to TRP. Each TRP becomes a token of the CIR
    around that tap, the direction to the TRP, and where TRP and estimate are. A
    transformer over these tokens says for each link how much longer or shorter its
    range is (a distribution over the window's points) and how far to trust it; the
    correction is the regularised weighted least-squares solution for these ranges,
    plus one that the network gives directly. So nothing has to learn that a delay is
    a distance, nor how ranges make a position: only which peak is the direct path.

    A reflected path is a range too, to the TRP's image in the wall. Where images are
    known, each is a ray of its own: the token sees the magnitudes around its delay and
    the direction to it, and its range counts in the solution. The further rays of a
    link have a direction and an excess length that the network gives.

    Ranges that a network reads off a window are good to some tenth of a tap. With
    `num_peaks`, the peak of the CIR that is next to the delay of the direct way, and
    that next to the delay of each image, give ranges as they are measured, between
    taps. They count by how near they are and by how far the network trusts them.

    With a `place`, what is known of where the estimate lies enters the tokens, see
    `PlaceView`: what a link is like there, above all without line of sight.

    With the `array` of a UE, the token also sees how much of these magnitudes arrives
    from where TRP and images are: a path at the right delay from elsewhere is another.

    Args:
        units: int > 0. Width of the tokens.
        num_blocks: int > 0. Encoder blocks.
        num_heads: int > 0. Attention heads; divides `units`.
        window: int > 0. Points of the window: a third of them before the predicted
            delay, two thirds after it, where reflections arrive.
        spacing: float > 0. Distance of the window's points [taps].
        num_rays: int > 0. Ranges per link, the direct one included, those of images
            not.
        taps_per_metre: float > 0. Sampling rate divided by the speed of light.
        scale: float > 0. Unit of scaled positions [m].
        num_images: int >= 0. Images of each TRP.
        num_peaks: int >= 0. Peaks of each CIR, the strongest, see `strongest_peaks`.
            With them the CIR must be scaled in dB.
        array: arguments of `antennas.PlanarArray`, of the UE, or None.
        return_state: bool. Whether what the step knows of the set is returned too.

    Call arguments:
        estimate: [batch, 3], float, scaled. No gradient flows back into it.
        trp_position: [batch, num_trps, 3], float, scaled.
        response: [batch, num_trps, num_taps, channels], float. Scaled CIR; with images
            real part, imaginary part and magnitude of each antenna, see `CirScaling`.
        embedding: [batch, num_trps, embedding_units], float. What else is known of
            each link.
        state: [batch, state_units], float. What else is known of the set.
        trp_mask: [batch, num_trps], bool.
        image_position: [batch, num_trps, num_images, 3], float, scaled; None without.
        spectrum: [batch, num_trps, num_taps, num_terms], float. Of `AngleSpectrum`;
            None without `array`.
        place: [batch, place_units], float. Of `PlaceMap`, at the estimate; None
            without.

    Returns: [batch, 3], float, scaled. The refined estimate; with `return_state` a
        tuple of it and [batch, units], float.
    """

    def __init__(
        self,
        units: int,
        num_blocks: int,
        num_heads: int,
        window: int,
        spacing: float,
        num_rays: int,
        taps_per_metre: float,
        scale: float,
        num_images: int = 0,
        num_peaks: int = 0,
        array: Mapping[str, float] | None = None,
        return_state: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("units", units)
        check_positive_int("num_blocks", num_blocks)
        check_positive_int("window", window)
        check_positive("spacing", spacing)
        check_positive_int("num_rays", num_rays)
        check_positive("taps_per_metre", taps_per_metre)
        check_positive("scale", scale)
        check_not_negative_int("num_images", num_images)
        check_not_negative_int("num_peaks", num_peaks)
        check_bool("return_state", return_state)
        self.units = units
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.window = window
        self.spacing = spacing
        self.num_rays = num_rays
        self.taps_per_metre = taps_per_metre
        self.scale = scale
        self.num_images = num_images
        self.num_peaks = num_peaks
        self.array = array
        self._array = array_of(array)
        self._view = DelayView(window, spacing, taps_per_metre * scale)
        self.return_state = return_state
        self._blocks = [EncoderBlock(num_heads, 4 * units) for _ in range(num_blocks)]

    def build(
        self,
        estimate_shape: tuple[int | None, ...],
        trp_position_shape: tuple[int | None, ...],
        response_shape: tuple[int | None, ...],
        embedding_shape: tuple[int | None, ...],
        state_shape: tuple[int | None, ...],
        trp_mask_shape: tuple[int | None, ...] | None = None,
        image_position_shape: tuple[int | None, ...] | None = None,
        spectrum_shape: tuple[int | None, ...] | None = None,
        place_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        """Create the weights."""
        units = self.units
        # Window, TRP, estimate, direction, distance, embedding.
        features = self.window * response_shape[-1] + 3 * 3 + 1 + embedding_shape[-1]
        # Of each image a window of magnitudes, and its direction.
        features += self.num_images * (self.window + 3)
        if self._array is not None:
            features += self._num_ways * self.window
        # Of each peak how far off it is, how near, and how strong.
        features += 3 * self._num_peak_rays
        self._link_in = layers.Dense(units)
        self._link_in.build((None, None, features))
        self._link_hidden = layers.Dense(units)
        self._link_hidden.build((None, None, units))
        self._state_in = layers.Dense(units)
        self._state_in.build((None, state_shape[-1] + 3))
        if place_shape is not None:
            self._place_view = PlaceView(units)
            self._place_view.build(place_shape, (None, None, 3))
        for block in self._blocks:
            block.build((None, None, units))
        self._norm = layers.LayerNormalization(epsilon=1e-6)
        self._norm.build((None, None, units))
        # Small and zero kernels: an untrained step changes next to nothing.
        small = keras.initializers.RandomNormal(stddev=1e-3)
        self._link_out = layers.Dense(
            self._num_read + self._num_peak_rays, kernel_initializer=small
        )
        self._link_out.build((None, None, units))
        self._link_out.bias.assign(self._initial_bias())
        self._set_out = layers.Dense(6, kernel_initializer="zeros")
        self._set_out.build((None, units))
        self.built = True

    def call(
        self,
        estimate: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        response: keras.KerasTensor,
        embedding: keras.KerasTensor,
        state: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
        image_position: keras.KerasTensor | None = None,
        spectrum: keras.KerasTensor | None = None,
        place: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor | tuple[keras.KerasTensor, keras.KerasTensor]:
        """Refine."""
        estimate = ops.stop_gradient(estimate)
        seen = self._see(estimate, trp_position, response, image_position, spectrum)
        features = [*seen.direct, embedding, *seen.others]
        links = self._link_in(ops.concatenate(features, axis=-1))
        whole = self._state_in(ops.concatenate([state, estimate], axis=-1))
        if place is not None:
            of_links, of_place = self._place_view(place, trp_position)
            links, whole = links + of_links, whole + of_place
        links = self._link_hidden(ops.relu(links))
        tokens = ops.concatenate([whole[:, None], links], axis=1)
        mask = ops.concatenate([ops.ones_like(trp_mask[:, :1]), trp_mask], axis=1)
        for block in self._blocks:
            tokens = block(tokens, mask)
        tokens = self._norm(tokens)
        rays = self._rays(self._link_out(tokens[:, 1:]), seen, trp_mask)
        direct, stiffness = ops.split(self._set_out(tokens[:, 0]), 2, axis=-1)
        step = weighted_step(*rays, ops.softplus(stiffness))
        refined = estimate + self._limited(step) + self._view.before * direct
        return (refined, tokens[:, 0]) if self.return_state else refined

    def compute_output_shape(
        self, estimate_shape: tuple[int | None, ...], *_: Any
    ) -> tuple[Any, ...]:
        """Return [batch, 3], or that and [batch, units]."""
        if not self.return_state:
            return estimate_shape
        return estimate_shape, (estimate_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "units num_blocks num_heads window spacing num_rays taps_per_metre scale "
            "num_images num_peaks array return_state"
        ).split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _see(
        self,
        estimate: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        response: keras.KerasTensor,
        image_position: keras.KerasTensor | None,
        spectrum: keras.KerasTensor | None,
    ) -> _Seen:
        """Return what CIRs hold where the estimate lets expect something."""
        # No gradient to what is seen, where it is made: nothing trainable lies before
        # it, and a compiled function would keep all that led to it for one.
        fixed = ops.stop_gradient
        direction, distance = map(fixed, _way(trp_position, estimate[:, None]))
        window = fixed(self._view.around(response, distance))
        repeated = ops.broadcast_to(estimate[:, None], ops.shape(trp_position))
        direct = [window, trp_position, repeated, direction, distance]
        others, levels = [], []
        ways = direction[:, :, None]
        if self.num_images or self.num_peaks or self._array is not None:
            magnitude = ops.max(response[..., 2::3], axis=-1, keepdims=True)
        if self._array is not None:
            levels.append(fixed(self._view.around(magnitude, distance)))
        if self.num_images:
            way = _way(image_position, estimate[:, None, None])
            towards, image_distance = map(fixed, way)
            levels.append(fixed(self._view.around(magnitude, image_distance[..., 0])))
            others.append(levels[-1])
            shape = (-1, ops.shape(towards)[1], 3 * self.num_images)
            others.append(ops.reshape(towards, shape))
            ways = ops.concatenate([ways, towards], axis=2)
            distance = ops.concatenate([distance, image_distance[..., 0]], axis=2)
        if self._array is not None:
            level = ops.concatenate(levels, axis=-1)
            directed = self._view.directed(level, spectrum, distance, ways, self._array)
            others.append(fixed(directed))
        if not self.num_peaks:
            return _Seen(direct, others, ways)
        peaks = self._view.next_peaks(magnitude[..., 0], distance, self.num_peaks)
        apart, *known = map(fixed, peaks)
        longer = apart / self._view.taps_per_unit
        return _Seen(direct, [*others, *known], ways, longer, near=known[1])

    @property
    def _num_ways(self) -> int:
        """Ways from a TRP whose delay is known: the direct one and those of images."""
        return 1 + self.num_images

    @property
    def _num_peak_rays(self) -> int:
        """Rays per link whose range is that of a peak."""
        return self._num_ways if self.num_peaks else 0

    @property
    def _num_read(self) -> int:
        """Outputs of the network for the rays of a link that it reads off itself."""
        return self._rays_per_link * (self.window + 5)

    @property
    def _rays_per_link(self) -> int:
        """Rays per link: the direct one, those of images, those of the network."""
        return self.num_rays + self.num_images

    def _initial_bias(self) -> np.ndarray:
        """Return biases that make all ranges right and trust direct rays most.

        The images of a TRP are trusted about as much as it is, all of them together.
        """
        bias = np.zeros((self._rays_per_link, self.window + 5), "float32")
        width = self.spacing * self.window / 16
        bias[:, : self.window] = -0.5 * (self._view.points / width) ** 2
        bias[1:, self.window] = -2.0
        if self.num_images:
            each = math.log(2) / self.num_images  # ln 2: of a bias of 0
            bias[1 : 1 + self.num_images, self.window] = math.log(math.expm1(each))
        peaks = bias[: self._num_peak_rays, self.window]
        return np.concatenate([bias.ravel(), peaks])

    def _limited(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """Shorten steps that lead out of the window: TRPs in a row allow any."""
        length = ops.sqrt(ops.sum(ops.square(step), axis=-1, keepdims=True) + 1e-12)
        return step * ops.minimum(1.0, self._view.before / length)

    def _rays(
        self, outputs: keras.KerasTensor, seen: _Seen, trp_mask: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
        """Return all rays' directions, corrections of range (scaled) and weights.

        Args:
            outputs: [batch, num_trps, num_read + num_peak_rays]. Of the network.
            seen: what the network has seen.
            trp_mask: [batch, num_trps], bool.

        Returns: [batch, num_rays, 3] and twice [batch, num_rays], of all links.
        """
        read, trust = ops.split(outputs, [self._num_read], axis=-1)
        rays = self._read_rays(read, seen.ways, trp_mask)
        if self.num_peaks:
            weight = self._weight(trust, trp_mask) * seen.near
            pairs = zip(rays, (seen.ways, seen.longer, weight), strict=True)
            rays = [ops.concatenate(pair, axis=2) for pair in pairs]
        count = ops.shape(trp_mask)[1] * rays[0].shape[2]
        return tuple(ops.reshape(x, (-1, count, *x.shape[3:])) for x in rays)

    def _read_rays(
        self,
        outputs: keras.KerasTensor,
        ways: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
        """Return the rays whose ranges the network reads off the windows.

        Args:
            outputs: [batch, num_trps, num_read].
            ways: [batch, num_trps, num_ways, 3]. Directions to the TRP and its images.
                The further rays begin as that to the TRP; the network turns them, and
                says by how much they are longer.
            trp_mask: [batch, num_trps], bool.

        Returns: [batch, num_trps, rays_per_link, 3] and twice without the 3, see above.
        """
        num_trps = ops.shape(outputs)[1]
        shape = (-1, num_trps, self._rays_per_link, self.window + 5)
        share, trust, turn, excess = ops.split(
            ops.reshape(outputs, shape),
            [self.window, self.window + 1, self.window + 4],
            axis=-1,
        )
        points = ops.array(self._view.points / self._view.taps_per_unit)
        longer = ops.sum(ops.softmax(share, axis=-1) * points, axis=-1)
        is_free = ops.cast(
            ops.arange(self._rays_per_link) > self.num_images, outputs.dtype
        )
        longer = longer - is_free * excess[..., 0]
        further = [ways[:, :, :1]] * (self.num_rays - 1)
        ray = ops.concatenate([ways, *further], axis=2) + is_free[:, None] * turn
        squared = ops.sum(ops.square(ray), axis=-1, keepdims=True)
        ray = ray * ops.rsqrt(squared + 1e-6)
        return ray, longer, self._weight(trust[..., 0], trp_mask)

    @staticmethod
    def _weight(
        trust: keras.KerasTensor, trp_mask: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return what rays count [batch, num_trps, num_rays], 0 of no TRP."""
        return ops.softplus(trust) * ops.cast(trp_mask, trust.dtype)[..., None]


def _way(
    target: keras.KerasTensor, estimate: keras.KerasTensor
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return direction [..., 3] and distance [..., 1] from estimates to targets."""
    towards = target - estimate
    squared = ops.sum(ops.square(towards), axis=-1, keepdims=True)
    distance = ops.sqrt(squared + 1e-9)
    return towards / distance, distance


def weighted_step(
    direction: keras.KerasTensor,
    longer: keras.KerasTensor,
    weight: keras.KerasTensor,
    stiffness: keras.KerasTensor,
) -> keras.KerasTensor:
    """Solve for the step that makes ranges longer by given amounts, least squares.

    A step `s` makes the range to a TRP in direction `u` longer by `-u's`; the result
    minimises `sum_i w_i (longer_i + u_i's)^2 + sum_k (stiffness_k + 1e-4) s_k^2`. The
    1e-4 keep it unique where TRPs in a row, or none, leave a direction open.

    Args:
        direction: [batch, num_trps, 3]. Unit vectors towards the TRPs.
        longer: [batch, num_trps].
        weight: [batch, num_trps], >= 0.
        stiffness: [batch, 3], >= 0.

    Returns: [batch, 3].
    """
    weighted = direction * weight[..., None]
    moment = -ops.sum(weighted * longer[..., None], axis=1)  # [batch, 3]
    normal = ops.matmul(ops.swapaxes(weighted, 1, 2), direction)  # [batch, 3, 3]
    a, b, c = (normal[:, k, k] + stiffness[:, k] + 1e-4 for k in range(3))
    d, e, f = normal[:, 0, 1], normal[:, 0, 2], normal[:, 1, 2]
    # The inverse by cofactors: three unknowns need no general solver.
    aa, bb, cc = b * c - f * f, a * c - e * e, a * b - d * d
    dd, ee, ff = e * f - c * d, d * f - b * e, d * e - a * f
    determinant = a * aa + d * dd + e * ee
    x, y, z = (moment[:, k] for k in range(3))
    step = [
        aa * x + dd * y + ee * z,
        dd * x + bb * y + ff * z,
        ee * x + ff * y + cc * z,
    ]
    return ops.stack(step, axis=-1) / determinant[:, None]
