"""Samples in another frame: turned about the vertical and mirrored, at random.

Propagation does not know where north is: if everything is turned about the vertical, or
mirrored in a vertical plane, each link keeps its delays and, with vertically polarised
antennas that are alike in all directions, its gains. Positions and azimuths change. (An
array keeps its orientation, which is that of a compass: its response is that to the new
azimuths.)

A model believes that UEs are in the box of its region. Three ways respect that:

* `"symmetries"`: the symmetries of the region's ground plan, 8 of a square, 4 of
  another rectangle: all UEs stay in it.
* `"rotate"`: one of these, and then any angle. Where that would take the UE out of the
  region, it is left at the symmetry. So samples of UEs near the corners of a square are
  turned less evenly than others. (With UEs on a disc in the square only, all angles
  would do, but models would never see the corners; in a region made greater by the
  corners' reach, no sample as drawn would be near the edge.)
* `"tilt"`: as `"rotate"`, and then the whole place becomes a slope of up to 5 %, in any
  direction, about the middle of the region. Distances stay, so that flat places teach a
  model that UEs stand higher and lower, as where streets climb; gains would change by
  what antennas do within 3 degrees. Where the UE would leave the region, whose box must
  have some height, the sample is not tilted: where it is low, steep slopes are only
  seen near the middle.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.checks import check_known
from sionna_loc.constants import AUGMENTATIONS

NEEDED = ("num_paths", "ue_position")
"""Fields without which it cannot be said how a sample turns."""
_CHANCE_SALT = 0x7042
_TILT_SALT = 0x711
_ANGLES = ("path_aoa", "path_aod")
_STEEPEST = 0.05  # slope of a tilted place
_QUARTER_TURNS = (
    (0.0, 1.0, 0.0),
    (np.pi / 2, 0.0, 1.0),
    (np.pi, -1.0, 0.0),
    (3 * np.pi / 2, 0.0, -1.0),
)
"""Angle [rad], and cosine and sine without rounding: what is on the region's edge stays
there."""


class Turning:
    """Turns and mirrors the samples of ragged batches.

    Args:
        name: one of `constants.AUGMENTATIONS`.
        region: [2, 3], float [m]. Box of the UEs; its middle stays where it is.

    Call arguments:
        batch: dict of the contract's fields, of which those per TRP are
            `tf.RaggedTensor` [batch, (num_trps), ...], with windows
            [batch, (window), (num_trps), ...]; `NEEDED` must be among them.
        chance: [batch, 9], float32, of `draw_chance`.

    Returns: the same fields. What becomes of a sample does not depend on the batch that
        it is in, to the last bit.
    Raises: UserError if there is no such augmentation.
    """

    def __init__(self, name: str, region: Any) -> None:
        check_known("augmentation", name, AUGMENTATIONS)
        corners = np.asarray(region, np.float32)
        width, depth, _ = np.ptp(corners, axis=0)
        self._any_angle = name in ("rotate", "tilt")
        self._tilts = name == "tilt"
        self._turns = range(4) if np.isclose(width, depth) else range(0, 4, 2)
        self._lower, self._upper = corners
        self._middle = corners.mean(axis=0)
        self._axis = self._middle * np.array([1, 1, 0], np.float32)

    @classmethod
    def asked_for(cls, name: str | None, region: Any) -> "Turning | None":
        """Return the augmentation of that name, or None for none."""
        return None if name is None else cls(name, region)

    def __call__(
        self, batch: dict[str, tf.Tensor | tf.RaggedTensor], chance: tf.Tensor
    ) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """See the class."""
        turn, mirror = self._symmetry(chance)
        if self._any_angle:
            ue_position = self._moved(batch["ue_position"], turn, mirror)
            turn = self._further(turn, ue_position, chance[:, 2:5])
        turned = _changed(batch, self._moved, _turned_angles, turn, mirror)
        if self._tilts:
            tilt = self._possible(turned["ue_position"], chance[:, 5:])
            turned = _changed(turned, self._tilted, _tilted_angles, tilt)
        return turned

    def _symmetry(self, chance: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (angle, cosine, sine) [batch, 3] of a turn, and 1 or -1 [batch]."""
        count = len(self._turns)
        index = tf.cast(chance[:, 0] * count, tf.int32) * (4 // count)
        turn = tf.gather(tf.constant(_QUARTER_TURNS, tf.float32), index)  # [batch, 3]
        return turn, tf.where(chance[:, 1] < 0.5, 1.0, -1.0)

    def _further(
        self, turn: tf.Tensor, ue_position: tf.Tensor, more: tf.Tensor
    ) -> tf.Tensor:
        """Turn further, by `more` [batch, 3], where the UE is in the region even so."""
        plan = self._moved(ue_position, more, tf.ones_like(more[:, 0]))[:, :2]
        is_inside = tf.logical_and(plan >= self._lower[:2], plan <= self._upper[:2])
        angle, cos, sin = tf.unstack(turn, axis=-1)
        further, more_cos, more_sin = tf.unstack(more, axis=-1)
        both = tf.stack(
            [
                angle + further,
                cos * more_cos - sin * more_sin,
                sin * more_cos + cos * more_sin,
            ],
            axis=-1,
        )
        return tf.where(tf.reduce_all(is_inside, axis=-1, keepdims=True), both, turn)

    def _moved(
        self, position: tf.Tensor, turn: tf.Tensor, mirror: tf.Tensor
    ) -> tf.Tensor:
        """Return positions [n, 3], y mirrored first, then turned about the middle."""
        x, y, z = tf.unstack(position - self._axis, axis=-1)
        _, cos, sin = tf.unstack(turn, axis=-1)
        y *= mirror
        moved = tf.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1)
        return moved + self._axis

    def _possible(self, ue_position: tf.Tensor, tilt: tf.Tensor) -> tf.Tensor:
        """Return tilts [batch, 4], none where UEs would leave the region."""
        moved = self._tilted(ue_position, tilt)
        is_inside = tf.logical_and(moved >= self._lower, moved <= self._upper)
        is_inside = tf.reduce_all(is_inside, axis=-1, keepdims=True)
        return tf.where(is_inside, tilt, tf.constant([[1.0, 0.0, 1.0, 0.0]]))

    def _tilted(self, position: tf.Tensor, tilt: tf.Tensor) -> tf.Tensor:
        """Return positions [n, 3] tilted about the middle."""
        return _tilted_vectors(position - self._middle, tilt) + self._middle


def draw_chance(seed: tf.Tensor, num_samples: int) -> tf.Tensor:
    """Draw what is random about samples.

    Cosines are taken here, of all samples of a block or pass: TensorFlow rounds them
    otherwise at the end of an array than within, so that batches would matter.

    Args:
        seed: [2], integer.
        num_samples: int > 0.

    Returns: [num_samples, 9], float32: two numbers in [0, 1) that say which symmetry; a
        further angle [rad] with its cosine and sine; cosine and sine of the direction
        in which a tilted place descends, and of how steeply.
    """
    seed = tf.random.fold_in(tf.cast(seed, tf.int64), _CHANCE_SALT)
    symmetry = tf.random.stateless_uniform([num_samples, 3], seed)
    tilt = tf.random.stateless_uniform(
        [num_samples, 2], tf.random.fold_in(seed, _TILT_SALT)
    )
    angle = 2 * np.pi * symmetry[:, 2]
    downhill = 2 * np.pi * tilt[:, 0]
    steepness = tf.atan(_STEEPEST * tf.sqrt(tilt[:, 1]))  # even over all slopes
    columns = [symmetry[:, 0], symmetry[:, 1], angle]
    for each in (angle, downhill, steepness):
        columns += [tf.cos(each), tf.sin(each)]
    return tf.stack(columns, axis=-1)


def _changed(
    batch: dict[str, tf.Tensor | tf.RaggedTensor],
    move: Callable[..., tf.Tensor],
    turn_angles: Callable[..., tf.Tensor],
    *change: tf.Tensor,
) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """Return a batch in which positions and angles change.

    Args:
        batch: see `Turning`.
        move: from positions [n, 3] and `change` of each to positions.
        turn_angles: from angles [links, P, 2], numbers of paths [links] and `change`
            of each to angles.
        change: [batch, ...] each.
    """
    changed = dict(batch)
    for name, values in batch.items():
        is_ragged = isinstance(values, tf.RaggedTensor)
        if name == "ue_position":
            changed[name] = move(values, *change)
        elif is_ragged and (name == "trp_position" or name in _ANGLES):
            sample = _samples_of(values)
            own = [tf.gather(each, sample) for each in change]
            if name == "trp_position":
                moved = move(values.flat_values, *own)
            else:
                num_paths = batch["num_paths"].flat_values
                moved = turn_angles(values.flat_values, num_paths, *own)
            changed[name] = values.with_flat_values(moved)
    return changed


def _turned_angles(
    angles: tf.Tensor, num_paths: tf.Tensor, turn: tf.Tensor, mirror: tf.Tensor
) -> tf.Tensor:
    """Return (zenith, azimuth) [links, P, 2] in the new frame; unused ones stay 0."""
    zenith, azimuth = tf.unstack(angles, axis=-1)  # [links, P]
    turned = mirror[:, None] * azimuth + turn[:, :1]
    turned -= 2 * np.pi * tf.floor(turned / (2 * np.pi) + 0.5)  # -pi to pi
    turned = tf.stack([zenith, turned], axis=-1)
    return tf.where(_exists(angles, num_paths), turned, angles)


def _tilted_angles(
    angles: tf.Tensor, num_paths: tf.Tensor, tilt: tf.Tensor
) -> tf.Tensor:
    """Return (zenith, azimuth) [links, P, 2] in the tilted place; unused ones stay."""
    zenith, azimuth = tf.unstack(angles, axis=-1)
    across = tf.sin(zenith)
    way = [across * tf.cos(azimuth), across * tf.sin(azimuth), tf.cos(zenith)]
    way = _tilted_vectors(tf.stack(way, axis=-1), tilt[:, None])
    x, y, z = tf.unstack(way, axis=-1)
    zenith = tf.atan2(tf.sqrt(tf.square(x) + tf.square(y)), z)
    tilted = tf.stack([zenith, tf.atan2(y, x)], axis=-1)
    return tf.where(_exists(angles, num_paths), tilted, angles)


def _tilted_vectors(vectors: tf.Tensor, tilt: tf.Tensor) -> tf.Tensor:
    """Turn vectors [..., 3] so that what points up leans downhill, as tilts say."""
    x, y, z = tf.unstack(vectors, axis=-1)
    east, north, cos, sin = tf.unstack(tilt, axis=-1)
    along = east * x + north * y
    forth = (cos - 1) * along + sin * z
    moved = [x + forth * east, y + forth * north, cos * z - sin * along]
    return tf.stack(moved, axis=-1)


def _exists(angles: tf.Tensor, num_paths: tf.Tensor) -> tf.Tensor:
    """Return which paths there are, [links, P, 1]."""
    return (tf.range(angles.shape[1])[None] < num_paths[:, None])[..., None]


def _samples_of(values: tf.RaggedTensor) -> tf.Tensor:
    """Return the sample of each of the flat values, [num_values], int64."""
    if values.ragged_rank == 1:
        return values.value_rowids()
    return tf.gather(values.value_rowids(), _samples_of(values.values))
