"""Few-shot adaptation: a trained model goes on learning from a few new samples."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from sionna_loc.assembly import compile_model, make_features, reading_options
from sionna_loc.checks import check, check_positive_int
from sionna_loc.data.measured_form import CIRS
from sionna_loc.data.ragged import with_fewer_trps
from sionna_loc.evaluation import BATCH_SIZE, evaluate
from sionna_loc.models.base import Localizer
from sionna_loc.recipes import Recipe


@dataclass(frozen=True)
class Shots:
    """What a model adapts to.

    Args:
        scenario: where; its `"train"` split gives the samples, its `"test"` split the
            errors.
        num_samples: int > 0. To learn from.
        num_trps: int > 0. TRPs of a sample.
        num_test: int > 0. To measure the error with.
    """

    scenario: Any
    num_samples: int
    num_trps: int
    num_test: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("num_samples", "num_trps", "num_test"):
            check_positive_int(name, getattr(self, name))

    def read(self, split: str, features: Any, batch_size: int) -> tf.data.Dataset:
        """Return a split in batches of (inputs, targets)."""
        num_samples = {"train": self.num_samples, "test": self.num_test}[split]
        samples = self.scenario.frozen(
            split,
            num_samples,
            num_trps=self.num_trps,
            batch_size=batch_size,
            **reading_options(features),
        )
        return samples.map(features)


def adapt(
    model: Localizer,
    shots: Shots,
    recipe: Recipe,
    *,
    epochs: int,
    measure_at: Iterable[int] | None = None,
    drop_trps: bool = False,
    seed: int = 0,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Train a model on few samples; return its learning curve.

    The scales that the model has learnt stay as they are. In a place that stays the
    same, what it remembers of samples, if it does, are these from then on, and walls
    are those that they show, unless those that it knows explain them as well. Where
    each sample is of another place, it forgets what it knows of one.

    Args:
        model: trained; its weights change.
        shots: what it learns from, and is tested on.
        recipe: optimizer, learning rate, batch size and loss; the schedule begins anew.
        epochs: int > 0. Passes over the samples.
        measure_at: epochs after which the error is measured, besides the last; all of
            them and, before the first, the error without any adaptation by default.
        drop_trps: bool. Whether a sample loses some of its TRPs each time, other ones
            in each pass, see `with_fewer_trps`.
        seed: int. Of the order of the samples, and of the TRPs that they lose.
        report: called with each point of the curve.

    Returns: points, each with `epoch`, `samples` and the metrics of the test set, see
        `metrics.position_metrics`.
    Raises: UserError if the model has nothing to train, or a number is not possible.
    """
    check_positive_int("epochs", epochs)
    check_can_adapt(model)
    if drop_trps:
        check_can_lose_trps(model)
    keras.utils.set_random_seed(seed)
    features = make_features(shots.scenario, model)
    test = list(shots.read("test", features, BATCH_SIZE))
    train = shots.read("train", features, recipe.batch_size)
    batches, num_samples = _shuffled(train, model, recipe.batch_size, seed)
    if drop_trps:
        # Zipped, as the numbers of `enumerate` are the same in each pass.
        numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        batches = losing_trps(tf.data.Dataset.zip(numbers, batches), seed)
    num_steps = epochs * -(-num_samples // recipe.batch_size)
    compile_model(model, recipe, recipe.steps_of_call(model, num_steps))
    measured = range(epochs) if measure_at is None else measure_at
    curve = _Curve(test, {*measured, epochs}, report)

    def settle(logs: dict[str, Any] | None = None) -> None:
        """Take in the new place, after the error of the model as it was."""
        if shots.scenario.is_one_place:
            model.remember(train)
        else:
            model.forget()

    settling = keras.callbacks.LambdaCallback(on_train_begin=settle)
    callbacks = [Pace(recipe, epochs, num_samples), curve, settling]
    model.fit(batches, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
    return curve.points


def check_can_adapt(model: Localizer) -> None:
    """Raise `UserError` if a model has nothing to train."""
    check(model.is_trainable, "The model has no weights to adapt.", model=model.name)


def check_can_lose_trps(model: Localizer) -> None:
    """Raise `UserError` if samples of a model must keep their TRPs."""
    check(
        model.features == CIRS and model.fixed_num_trps is None,
        "TRPs can be taken away from the samples of models on CIRs of any number of "
        "TRPs only.",
        model=model.name,
    )


def losing_trps(numbered: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """Return batches with fewer TRPs, see `with_fewer_trps`.

    Args:
        numbered: number and batch; batches are (inputs, targets), ragged. The same
            number takes the same TRPs away.
        seed: int.
    """

    def fewer(number: tf.Tensor, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        inputs, targets = batch
        seeds = tf.stack([tf.cast(seed, tf.int64), number])
        return with_fewer_trps(inputs, seeds), targets

    return numbered.map(fewer).prefetch(2)


def joined(batches: Sequence[Any]) -> Any:
    """Return the values of all batches in one, ragged or not."""
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *batches)


def chosen(values: Any, index: Any) -> Any:
    """Return some samples of a batch, [num_chosen, ...] each."""
    return tf.nest.map_structure(lambda rows: tf.gather(rows, index), values)


def _shuffled(
    dataset: tf.data.Dataset, model: Localizer, batch_size: int, seed: int
) -> tuple[tf.data.Dataset, int]:
    """Return batches of all samples, other ones each time, and how many samples."""
    read = list(dataset)
    count = sum(len(targets["position"]) for _, targets in read)
    check(count > 0, "No sample hears enough TRPs to adapt to.", num_samples=count)
    inputs, targets = joined(read)
    if model.compiles_steps:  # padded alike, batches have one shape to compile
        inputs = model.pad(inputs)

    def rows(index: tf.Tensor) -> Any:
        return chosen((inputs, targets), index)

    order = tf.data.Dataset.range(count).shuffle(count, seed=seed)
    return order.batch(batch_size).map(rows).prefetch(2), count


class Pace(keras.callbacks.Callback):
    """Sets the learning rate of each batch.

    Args:
        recipe: whose schedule it is.
        epochs: int > 0. Passes over the samples that the schedule is for.
        epoch_size: int > 0. Samples of a pass.
    """

    def __init__(self, recipe: Recipe, epochs: int, epoch_size: int) -> None:
        super().__init__()
        self._recipe = recipe
        self._epochs = epochs
        self._epoch_size = epoch_size
        self._done = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the epochs."""
        self._done = epoch * self._epoch_size

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Set it from what is done so far."""
        samples = self._done + batch * self._recipe.batch_size
        epoch = samples / self._epoch_size
        rate = self._recipe.learning_rate_at(epoch / self._epochs, epoch, samples)
        self.model.optimizer.learning_rate = rate


class _Curve(keras.callbacks.Callback):
    """Measures the error of the test set after some epochs."""

    def __init__(
        self,
        test: Sequence[Any],
        measured: set[int],
        report: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        super().__init__()
        self._test = test
        self._measured = measured
        self._report = report
        self.points: list[dict[str, Any]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Measure what the model does without adaptation."""
        self._measure(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure."""
        self._measure(epoch + 1)

    def _measure(self, epoch: int) -> None:
        """Add a point, if one is wanted there."""
        if epoch not in self._measured:
            return
        point = {"epoch": epoch, **evaluate(self.model, self._test).metrics}
        self.points.append(point)
        if self._report is not None:
            self._report(point)
