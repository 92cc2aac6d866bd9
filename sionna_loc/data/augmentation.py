"""Samples in another frame: turned about the vertical and mirrored, at random.

Propagation does not know where north is: if everything is turned about the vertical, or
mirrored in a vertical plane, each link keeps its delays and, with vertically polarised
antennas that are alike in all directions, its gains. Positions and azimuths change. (An
array keeps its orientation, which is that of a compass: its response is that to the new
azimuths.)

A model believes that UEs are in the box of its region. Two ways respect that:

* `"symmetries"`: the symmetries of the region's ground plan, 8 of a square, 4 of
  another rectangle: all UEs stay in it.
* `"rotate"`: one of these, and then any angle. Where that would take the UE out of the
  region, it is left at the symmetry. So samples of UEs near the corners of a square are
  turned less evenly than others. (With UEs on a disc in the square only, all angles
  would do, but models would never see the corners; in a region made greater by the
  corners' reach, no sample as drawn would be near the edge.)
"""

from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.checks import check_known
from sionna_loc.constants import AUGMENTATIONS

NEEDED = ("num_paths", "ue_position")
"""Fields without which it cannot be said how a sample turns."""
_CHANCE_SALT = 0x7042
_ANGLES = ("path_aoa", "path_aod")
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
        chance: [batch, 5], float32, of `draw_chance`.

    Returns: the same fields. What becomes of a sample does not depend on the batch that
        it is in, to the last bit.
    Raises: UserError if there is no such augmentation.
    """

    def __init__(self, name: str, region: Any) -> None:
        check_known("augmentation", name, AUGMENTATIONS)
        corners = np.asarray(region, np.float32)[:, :2]
        width, depth = np.ptp(corners, axis=0)
        self._any_angle = name == "rotate"
        self._turns = range(4) if np.isclose(width, depth) else range(0, 4, 2)
        self._lower, self._upper = corners
        self._middle = np.array([*corners.mean(axis=0), 0.0], np.float32)

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
            turn = self._further(turn, ue_position, chance[:, 2:])
        turned = dict(batch)
        for name, values in batch.items():
            is_ragged = isinstance(values, tf.RaggedTensor)
            if name == "ue_position":
                turned[name] = self._moved(values, turn, mirror)
            elif is_ragged and (name == "trp_position" or name in _ANGLES):
                sample = _samples_of(values)
                own = tf.gather(turn, sample), tf.gather(mirror, sample)
                if name == "trp_position":
                    moved = self._moved(values.flat_values, *own)
                else:
                    num_paths = batch["num_paths"].flat_values
                    moved = _turned_angles(values.flat_values, num_paths, *own)
                turned[name] = values.with_flat_values(moved)
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
        is_inside = tf.logical_and(plan >= self._lower, plan <= self._upper)
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
        x, y, z = tf.unstack(position - self._middle, axis=-1)
        _, cos, sin = tf.unstack(turn, axis=-1)
        y *= mirror
        moved = tf.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1)
        return moved + self._middle


def draw_chance(seed: tf.Tensor, num_samples: int) -> tf.Tensor:
    """Draw what is random about samples.

    Cosines are taken here, of all samples of a block or pass: TensorFlow rounds them
    otherwise at the end of an array than within, so that batches would matter.

    Args:
        seed: [2], integer.
        num_samples: int > 0.

    Returns: [num_samples, 5], float32: two numbers in [0, 1) that say which symmetry,
        and a further angle [rad] with its cosine and sine.
    """
    seed = tf.random.fold_in(tf.cast(seed, tf.int64), _CHANCE_SALT)
    uniform = tf.random.stateless_uniform([num_samples, 3], seed)
    angle = 2 * np.pi * uniform[:, 2]
    columns = uniform[:, 0], uniform[:, 1], angle, tf.cos(angle), tf.sin(angle)
    return tf.stack(columns, axis=-1)


def _turned_angles(
    angles: tf.Tensor, num_paths: tf.Tensor, turn: tf.Tensor, mirror: tf.Tensor
) -> tf.Tensor:
    """Return (zenith, azimuth) [links, P, 2] in the new frame; unused ones stay 0."""
    zenith, azimuth = tf.unstack(angles, axis=-1)  # [links, P]
    turned = mirror[:, None] * azimuth + turn[:, :1]
    turned -= 2 * np.pi * tf.floor(turned / (2 * np.pi) + 0.5)  # -pi to pi
    exists = tf.range(angles.shape[1])[None] < num_paths[:, None]
    return tf.stack([zenith, tf.where(exists, turned, azimuth)], axis=-1)


def _samples_of(values: tf.RaggedTensor) -> tf.Tensor:
    """Return the sample of each of the flat values, [num_values], int64."""
    if values.ragged_rank == 1:
        return values.value_rowids()
    return tf.gather(values.value_rowids(), _samples_of(values.values))
