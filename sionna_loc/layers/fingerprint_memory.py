"""Memory of what was heard at known places: the samples that are like a new one."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import UserError, check_positive, check_positive_int
from sionna_loc.layers.cir_scaling import CirScaling
from sionna_loc.layers.token_set import TokenSet
from sionna_loc.layers.trp_slots import TrpSlots
from sionna_loc.layers.wall_images import received_links

FAR = 1e9
"""Dissimilarity of samples that have no TRP in common."""
_SAME = 1e-5  # dissimilarity below which two samples are one and the same
_NEAR_ZERO = 1e-3  # difference of a profile's points that rounding makes
_SURVEY_ERROR = 3.0  # by which a TRP may be said to stand elsewhere [m]
_THINNED = 0.2  # share of the samples that see a thinner memory in training
_THINNEST = 1e-3  # of what is remembered


class Neighbours(NamedTuple):
    """The remembered samples that are most like each of a batch, the nearest first.

    Attributes:
        position: [batch, num_neighbours, 3], float [m].
        difference: [batch, num_neighbours], float. Mean squared difference over all
            TRPs that both have, `FAR` where there is none.
        by_slot: [batch, num_neighbours, num_slots], float. The same of each TRP, 0 of
            those that are not shared.
        shared: [batch, num_neighbours, num_slots], bool. TRPs that both have.
    """

    position: Any
    difference: Any
    by_slot: Any
    shared: Any


def dissimilarity(
    profile: Any, filled: Any, other: Any, other_energy: Any, other_filled: Any
) -> Any:
    """Return the mean squared difference of samples over the TRPs that both have.

    Args:
        profile: [batch, num_slots, size], float; zero in slots that are not filled.
        filled: [batch, num_slots], float, 0 or 1.
        other: [num_others, num_slots * size], float. As `profile`.
        other_energy: [num_others, num_slots], float. Sums of squares of each slot.
        other_filled: [num_others, num_slots], float, 0 or 1.

    Returns: [batch, num_others], float, `FAR` for those that share no TRP.
    """
    size = profile.shape[2]
    both = ops.matmul(filled, ops.transpose(other_filled))
    flat = ops.reshape(profile, (-1, other.shape[1]))
    energy = ops.sum(ops.square(profile), axis=2)
    squared = ops.matmul(energy, ops.transpose(other_filled))
    squared += ops.matmul(filled, ops.transpose(other_energy))
    squared -= 2 * ops.matmul(flat, ops.transpose(other))
    squared /= ops.maximum(both, 1) * size
    return ops.where(both > 0, ops.relu(squared), FAR)


def triangles(num_taps: int, half_width: int) -> np.ndarray:
    """Return the weights [num_taps, num_taps] of averages, one a column, float32.

    Args:
        num_taps: int > 0.
        half_width: int > 0. Taps after which the weights have come down to 0.
    """
    taps = np.arange(num_taps)
    weight = np.maximum(half_width - np.abs(taps[:, None] - taps), 0)
    return (weight / half_width**2).astype("float32")


def smoothed_level(power: Any, smoother: Any, scaling: CirScaling) -> Any:
    """Return power-delay profiles, averaged and then scaled to the order of 1.

    Args:
        power: [..., num_taps], float.
        smoother: [num_taps, num_points], float. Weights of each average.
        scaling: says what becomes of the amplitudes.

    Returns: [..., num_points], float.
    """
    amplitude = ops.sqrt(ops.matmul(power, smoother))
    return scaling(ops.stack([amplitude, 0 * amplitude], axis=-1))[..., 2]


@keras.saving.register_keras_serializable(package="sionna_loc")
class FingerprintMemory(keras.layers.Layer):
    """Remembers the samples of a training set, and finds those that are like a new one.

    A sample's fingerprint is the power-delay profile of each TRP, told by its place:
    the mean over the antennas, averaged over neighbouring taps, whose fading changes
    within centimetres, in dB above a floor. Profiles of a site are empty at most
    delays: of the averages those are kept that differ most between samples. Samples
    are compared by the mean squared difference over the TRPs that both have.

    `adapt` remembers, of the TRPs that its first batches hear. A sample that lacks TRPs
    gets them from another at the same place whose others are the same, as where each
    pass over a training set has other TRPs.

    In training no sample finds itself, and some see only a random part of the memory,
    down to a thousandth, so that what learns from it meets samples that are like
    nothing remembered, as in another place or where little was measured. Of several
    measurements at one place, though, each finds the others and learns to trust them
    too much.

    Args:
        num_slots: int > 0. TRPs of the site.
        num_taps: int > 0. Taps of each CIR.
        num_references: int > 0. Samples that can be remembered.
        num_neighbours: int > 0. That are found; `num_references` if that is less.
        num_points: int > 0. Averages of each profile.
        smoothing: int > 0. Taps after which the triangular weights of an average have
            come down to 0.
        dynamic_range_db: float > 0 [dB]. From the strongest taps to the floor.

    Call arguments:
        tokens: `TokenSet` with the CIRs.
        training: bool. See above.

    Returns: `Neighbours`. No gradient flows back.
    Raises: UserError (a ValueError) if a size is not positive.
    References: Bahl and Padmanabhan, "RADAR: An In-Building RF-based User Location
        and Tracking System", Sec. 4.2 (nearest neighbours in signal space).
    """

    def __init__(
        self,
        num_slots: int,
        num_taps: int,
        num_references: int,
        num_neighbours: int,
        num_points: int = 40,
        smoothing: int = 6,
        dynamic_range_db: float = 47.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_slots", num_slots)
        check_positive_int("num_taps", num_taps)
        check_positive_int("num_references", num_references)
        check_positive_int("num_neighbours", num_neighbours)
        check_positive_int("num_points", num_points)
        check_positive_int("smoothing", smoothing)
        check_positive("dynamic_range_db", dynamic_range_db)
        self.num_slots = num_slots
        self.num_taps = num_taps
        self.num_references = num_references
        self.num_neighbours = num_neighbours
        self.num_points = num_points
        self.smoothing = smoothing
        self.dynamic_range_db = dynamic_range_db

    def build(self, tokens_shape: Any) -> None:
        """Create the weights, which hold nothing."""
        self.scaling = CirScaling("log", self.dynamic_range_db)
        self.slots = TrpSlots(self.num_slots, tolerance=_SURVEY_ERROR)
        self._seed = keras.random.SeedGenerator()
        shapes = {
            "smoother": (self.num_taps, self._size),
            "profile": (self.num_references, self.num_slots * self._size),
            "energy": (self.num_references, self.num_slots),
            "filled": (self.num_references, self.num_slots),
            "position": (self.num_references, 3),
        }
        for name, shape in shapes.items():
            weight = self.add_weight(
                shape=shape, initializer="zeros", trainable=False, name=name
            )
            setattr(self, name, weight)
        self.built = True

    @property
    def num_adapt_samples(self) -> int:
        """Samples that `adapt` reads at most: two passes, for TRPs that one lacks."""
        return 2 * self.num_references

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Remember samples until there are enough and none lacks a TRP.

        Args:
            dataset: batches of (inputs, targets); can be read twice.

        Raises: UserError if there are more TRPs than slots.
        """
        power, trp_position, _ = received_links(dataset)
        self.scaling.adapt_to_peaks(power.max(axis=1))
        self.slots.adapt([trp_position])
        self.smoother.assign(self._most_telling(power))
        self._remember(dataset)

    def remember(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Remember samples instead of those of before; scales stay, if there are any.

        Of another site with more TRPs than slots nothing is remembered.

        Args: see `adapt`.
        """
        if not np.any(ops.convert_to_numpy(self.smoother)):
            self.adapt(dataset)
            return
        _, trp_position, _ = received_links(dataset)
        try:
            self.slots.adapt([trp_position])
        except UserError:
            dataset = ()
        self._remember(dataset)

    def forget(self) -> None:
        """Forget all samples; scales and slots stay."""
        self._remember(())

    def _remember(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Remember samples of the TRPs that have slots, and nothing else."""
        notes = _Notes(self.num_references, self.num_slots, self._size)
        for inputs, targets in dataset:
            profile, filled = self._fingerprint(TokenSet.from_inputs(inputs))
            rows = profile, filled, targets["position"]
            if notes.add(*map(ops.convert_to_numpy, rows)):
                break
        self.profile.assign(notes.profile.reshape(self.num_references, -1))
        self.energy.assign(np.square(notes.profile).sum(axis=2))
        self.filled.assign(notes.filled)
        self.position.assign(notes.position)

    def call(self, tokens: TokenSet, training: bool = False) -> Neighbours:
        """Find."""
        profile, filled = self._fingerprint(tokens)
        # What is found is data: nothing before it is trained.
        profile = ops.stop_gradient(profile)
        filled = ops.cast(filled, profile.dtype)
        known = self.profile, self.energy, self.filled
        difference = dissimilarity(profile, filled, *known)
        if training:
            difference = ops.where(self._kept(difference), difference, FAR)
        # One more than is asked for, as the sample itself may be among them.
        found = min(self.num_neighbours + int(training), self.num_references)
        nearness, row = ops.top_k(-difference, found)
        shared = ops.take(self.filled, row, axis=0) * filled[:, None]
        shape = (-1, found, self.num_slots, self._size)
        remembered = ops.reshape(ops.take(self.profile, row, axis=0), shape)
        apart = ops.mean(ops.square(remembered - profile[:, None]), axis=3) * shared
        # Anew, without the rounding of a difference of sums.
        difference = ops.sum(apart, axis=2) / ops.maximum(ops.sum(shared, axis=2), 1)
        is_far = -nearness > FAR / 2
        if training:
            is_far = ops.logical_or(is_far, difference < _SAME)
        difference = ops.where(is_far, FAR, difference)
        count = min(self.num_neighbours, found)
        nearness, order = ops.top_k(-difference, count)
        apart, shared = (
            ops.take_along_axis(x, order[..., None], axis=1) for x in (apart, shared)
        )
        row = ops.take_along_axis(row, order, axis=1)
        position = ops.take(self.position, row, axis=0)
        return Neighbours(position, -nearness, apart, shared > 0)

    def compute_output_shape(
        self, tokens_shape: Any, training: bool = False
    ) -> Neighbours:
        """Return the shapes, whose batch is not known."""
        count = min(self.num_neighbours, self.num_references)
        by_slot = (None, count, self.num_slots)
        return Neighbours((None, count, 3), (None, count), by_slot, by_slot)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "num_slots num_taps num_references num_neighbours num_points smoothing "
            "dynamic_range_db"
        ).split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @property
    def _size(self) -> int:
        """Points of a profile."""
        return min(self.num_points, self.num_taps)

    def _most_telling(self, power: np.ndarray) -> np.ndarray:
        """Return the averages [num_taps, size] that differ most, by their delay.

        Neighbours of half the width are alike: of all averages one in `smoothing / 2`
        is a candidate, or as many as it takes.

        Args:
            power: [num_links, num_taps], float.
        """
        step = max(1, min(self.smoothing // 2, self.num_taps // self._size))
        candidates = triangles(self.num_taps, self.smoothing)[:, ::step]
        level = smoothed_level(power.astype("float32"), candidates, self.scaling)
        spread = np.var(ops.convert_to_numpy(level), axis=0)
        chosen = np.sort(np.argsort(-spread, kind="stable")[: self._size])
        return candidates[:, chosen]

    def _kept(self, difference: Any) -> Any:
        """Return what counts of the memory in training, [batch, num_references]."""
        shape = ops.shape(difference)
        draw = keras.random.uniform((shape[0], 1), seed=self._seed) / _THINNED
        share = ops.where(draw < 1, ops.exp(draw * math.log(_THINNEST)), 1.0)
        return keras.random.uniform(shape, seed=self._seed) <= share

    def _fingerprint(self, tokens: TokenSet) -> tuple[Any, Any]:
        """Return profiles by slot [batch, num_slots, size], and which are filled."""
        power = ops.mean(ops.sum(ops.square(tokens.cir), axis=-1), axis=1)
        profile = smoothed_level(power, self.smoother, self.scaling)
        return self.slots(*tokens.densify(profile, tokens.trp_position))


class _Notes:
    """Samples that are gathered to be remembered.

    Args:
        num_references: int > 0. At most.
        num_slots: int > 0.
        size: int > 0. Of a slot.
    """

    def __init__(self, num_references: int, num_slots: int, size: int) -> None:
        self.profile = np.zeros((num_references, num_slots, size), "float32")
        self.filled = np.zeros((num_references, num_slots), bool)
        self.position = np.zeros((num_references, 3), "float32")
        self._rows: dict[bytes, list[int]] = {}
        self._count = 0

    def add(
        self, profile: np.ndarray, filled: np.ndarray, position: np.ndarray
    ) -> bool:
        """Add samples; return whether there is nothing more to add."""
        for sample in zip(profile, filled, position, strict=True):
            self._add_one(*sample)
        return self._count == len(self.filled) and bool(self.filled.all())

    def _add_one(
        self, profile: np.ndarray, filled: np.ndarray, position: np.ndarray
    ) -> None:
        """Add a sample, or what is new of it."""
        rows = self._rows.setdefault(position.tobytes(), [])
        for row in rows:
            shared = filled & self.filled[row]
            apart = np.abs(self.profile[row] - profile)[shared]
            if not (apart > _NEAR_ZERO).any():  # another part of the same
                self._note(row, profile, filled)
                return
        if self._count < len(self.filled):
            rows.append(self._count)
            self.position[self._count] = position
            self._note(self._count, profile, filled)
            self._count += 1

    def _note(self, row: int, profile: np.ndarray, filled: np.ndarray) -> None:
        """Write down what a sample has heard."""
        self.profile[row][filled] = profile[filled]
        self.filled[row] |= filled
