"""Positions that the measured delays allow."""

from typing import Any

import keras
from keras import ops


def longest_range(
    response: keras.KerasTensor, range_per_tap: float
) -> keras.KerasTensor:
    """Return how far each TRP can be at most: no path is shorter than the direct one.

    The strongest tap is the bound, plus one for the width of a tap. It is the direct
    path's own where that exists, and later where it does not.

    Args:
        response: [..., num_taps, 3 * num_ant], float. Every third channel is a
            magnitude.
        range_per_tap: float > 0. What a tap is in length.

    Returns: [...], in the unit of `range_per_tap`.
    """
    strongest = ops.argmax(ops.max(response[..., 2::3], axis=-1), axis=-1)
    return (ops.cast(strongest, response.dtype) + 1) * range_per_tap


def nearest_feasible(
    estimate: keras.KerasTensor,
    trp_position: keras.KerasTensor,
    longest: keras.KerasTensor,
    trp_mask: keras.KerasTensor,
    box: tuple[keras.KerasTensor, keras.KerasTensor],
    num_steps: int = 8,
) -> keras.KerasTensor:
    """Move estimates into the balls around the TRPs, and into a box.

    Projects onto the ball that is violated most and onto the box, in turns. Estimates
    that lie in all of them stay where they are. No gradient goes through.

    Args:
        estimate: [batch, 3], float.
        trp_position: [batch, num_trps, 3], float.
        longest: [batch, num_trps], float. Radii of the balls.
        trp_mask: [batch, num_trps], bool. TRPs that are heard.
        box: lower and upper corner, [3] each.
        num_steps: int > 0. Turns.

    Returns: [batch, 3].
    References: Censor and Zenios, "Parallel Optimization", Ch. 5 (projections onto
        convex sets).
    """

    def turn(_: Any, estimate: keras.KerasTensor) -> keras.KerasTensor:
        towards = trp_position - estimate[:, None]
        distance = ops.sqrt(ops.sum(ops.square(towards), axis=-1) + 1e-9)
        excess = ops.where(trp_mask, distance - longest, ops.cast(0, distance.dtype))
        worst = ops.one_hot(ops.argmax(excess, axis=-1), ops.shape(excess)[1])
        share = ops.relu(excess) / distance * ops.cast(worst, distance.dtype)
        estimate = estimate + ops.sum(share[..., None] * towards, axis=1)
        return ops.clip(estimate, *box)

    # A loop: compiled once and not for each turn.
    start = ops.stop_gradient(ops.clip(estimate, *box))
    return ops.stop_gradient(ops.fori_loop(0, num_steps, turn, start))
