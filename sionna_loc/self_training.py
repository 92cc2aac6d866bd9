"""Self-training: a model goes on learning from samples of unknown positions.

In a place where a model has never been, it still locates some samples well, those with
many TRPs in line of sight, and knows which they are. They show it the walls of that
place; and with most of their TRPs taken away they are hard samples, whose answer is
known. So it learns what happens out of sight, without a single surveyed position, and
is then sure of more samples, which the next round learns from.

What a sample is taught is not the estimate, but a position drawn from the model's own
density, another one in each pass: so the model does not grow surer than it was.

References: Yarowsky, "Unsupervised Word Sense Disambiguation Rivaling Supervised
Methods" (self-training); Hinton et al., "Distilling the Knowledge in a Neural Network"
(densities as targets).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from sionna_loc.adaptation import (
    Pace,
    check_can_adapt,
    check_can_lose_trps,
    chosen,
    joined,
    losing_trps,
)
from sionna_loc.assembly import compile_model
from sionna_loc.calibration import draw_positions, promise
from sionna_loc.checks import check
from sionna_loc.evaluation import BATCH_SIZE, evaluate
from sionna_loc.models.base import Localizer
from sionna_loc.recipes import Recipe, SelfTraining


def self_train(
    model: Localizer,
    samples: Iterable[dict[str, Any]],
    recipe: Recipe,
    plan: SelfTraining,
    *,
    is_one_place: bool = True,
    test: Sequence[tuple[dict[str, Any], dict[str, Any]]] = (),
    seed: int = 0,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Train a model on samples of unknown positions; return its learning curve.

    Args:
        model: trained, gives a density; its weights change.
        samples: batches of inputs, ragged.
        recipe: optimizer, learning rate and batch size; the schedule begins anew in
            each round.
        plan: how.
        is_one_place: bool. Whether all samples are of one place, whose walls the model
            then looks for in the sure ones; else it first forgets what it knows of one.
        test: batches of (inputs, targets) to measure errors with; none if empty.
        seed: int. Of the order of the samples, the TRPs that they lose, and the draws.
        report: called with each point of the curve.

    Returns: points, one before any training and one after each round, with `round`;
        `samples`, how many there are; `sure`, how many the model is sure of;
        `expected_mae`, the mean error that it expects of all of them [m]; and the
        metrics of the test set, see `metrics.position_metrics`, if there is one.
    Raises: UserError if the model cannot learn so, there are no samples, or it is sure
        of none of them.
    """
    check_can_adapt(model)
    check_can_lose_trps(model)
    check(
        model.gives_density,
        "Self-training is for models that know how sure they are: `backprojection`, "
        "and `vinloc` with --model-option gaussian_head=true.",
        model=model.name,
    )
    keras.utils.set_random_seed(seed)
    batches = list(samples)
    check(batches, "There must be a sample to learn from at least.", num_samples=0)
    inputs = joined(batches)
    generator = np.random.default_rng(seed)
    compile_model(model, recipe)
    if not is_one_place:
        model.forget()
    points: list[dict[str, Any]] = []
    for number in range(plan.rounds + 1):
        fixes = _sure_fixes(model, inputs, plan, generator)
        count = len(fixes.expected_error)
        point = {
            "round": number,
            "samples": count,
            "sure": len(fixes.sample),
            "expected_mae": float(np.mean(fixes.expected_error)),
            **(evaluate(model, test).metrics if test else {}),
        }
        points.append(point)
        if report is not None:
            report(point)
        if number == plan.rounds:
            break
        check(
            len(fixes.sample) > 0,
            f"The model is sure of none of the {count} samples: its best fix has an "
            f"expected error of {fixes.expected_error.min():.2g} m.",
            max_expected_error=plan.max_expected_error,
        )
        _learn(model, inputs, fixes, recipe, plan, is_one_place, generator)
    return points


class _Fixes(NamedTuple):
    """Where a model thinks that the samples are, of which it is sure.

    Attributes:
        sample: [num_sure], int. Which samples.
        position: [num_sure, 3], float32 [m]. Its estimates.
        draws: [num_sure, epochs, 3], float32 [m]. Of its densities.
        expected_error: [num_samples], float [m]. Of all samples.
    """

    sample: np.ndarray
    position: np.ndarray
    draws: np.ndarray
    expected_error: np.ndarray


def _sure_fixes(
    model: Localizer,
    inputs: dict[str, Any],
    plan: SelfTraining,
    generator: np.random.Generator,
) -> _Fixes:
    """Locate all samples and return those that the model is sure of."""
    sure, positions, draws, expected = [], [], [], []
    count = int(inputs["cir"].shape[0])
    for first in range(0, count, BATCH_SIZE):
        index = np.arange(first, min(first + BATCH_SIZE, count))
        outputs = model.predict_on_batch(chosen(inputs, index))
        error = promise(outputs, generator).expected_error
        rows = np.flatnonzero(error <= plan.max_expected_error)
        found = {name: np.asarray(values)[rows] for name, values in outputs.items()}
        sure.append(index[rows])
        positions.append(found["position"])
        draws.append(draw_positions(found, generator, plan.epochs))
        expected.append(error)
    return _Fixes(
        np.concatenate(sure),
        np.concatenate(positions).astype(np.float32),
        np.concatenate(draws).astype(np.float32),
        np.concatenate(expected),
    )


def _learn(
    model: Localizer,
    inputs: dict[str, Any],
    fixes: _Fixes,
    recipe: Recipe,
    plan: SelfTraining,
    is_one_place: bool,
    generator: np.random.Generator,
) -> None:
    """Train for one round on what the model was sure of."""

    def located(sample: Any, position: Any, batch_size: int) -> tf.data.Dataset:
        """Return batches of these samples, at these positions."""
        rows = tf.data.Dataset.from_tensor_slices((sample, position)).batch(batch_size)
        return rows.map(lambda s, p: (chosen(inputs, s), {"position": p}))

    if is_one_place:
        model.remember(located(fixes.sample, fixes.position, BATCH_SIZE))
    num_sure = len(fixes.sample)
    order = np.concatenate(
        [generator.permutation(num_sure) for _ in range(plan.epochs)]
    )
    epoch = np.arange(len(order)) // num_sure
    seed = int(generator.integers(2**31))
    taught = fixes.sample[order], fixes.draws[order, epoch]
    batches = located(*taught, recipe.batch_size).enumerate()
    pace = Pace(recipe, plan.epochs, num_sure)
    model.fit(losing_trps(batches, seed), callbacks=[pace], shuffle=False, verbose=0)
