"""Keras callbacks of the training path; they share one `TrainingState`."""

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sionna_loc._memory import release_unused_memory
from sionna_loc.checkpoints import HistoryRow, TrainingDiverged, TrainingState
from sionna_loc.data.waiting import WaitMeter
from sionna_loc.metrics import error_metrics, horizontal_errors
from sionna_loc.recipes import Recipe, RunConfig
from sionna_loc.saving import write_history

_USUAL_SHARE = 0.99


class Pace(keras.callbacks.Callback):
    """Sets the learning rate from the progress of the run and ends it in time.

    Progress is the share of the steps or of the time that is used up, whichever is
    more. It drives the schedule, so that a run limited by time ends with its
    schedule complete, too.

    Args:
        state: shared.
        recipe: gives the schedule.
        config: resolved; gives the length.
        most_steps: int > 0. Steps of one call of Keras, unless the next validation
            is nearer.
    """

    def __init__(
        self,
        state: TrainingState,
        recipe: Recipe,
        config: RunConfig,
        most_steps: int = 1,
    ) -> None:
        super().__init__()
        self._state = state
        self._recipe = recipe
        self._config = config
        self._most_steps = most_steps
        self._started = time.monotonic() - state.seconds

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        shares = [0.0]
        if self._config.steps is not None:
            shares.append(self._state.step / self._config.steps)
        if self._config.max_minutes is not None:
            shares.append(self._state.seconds / (60 * self._config.max_minutes))
        return min(1.0, max(shares))

    @property
    def samples(self) -> int:
        """Samples seen."""
        return self._state.step * self._config.batch_size

    @property
    def num_validations(self) -> int:
        """How many validations the run has: 20, if they are neither dense nor rare."""
        counts = []
        if (steps := self._config.steps) is not None:
            counts.append(max(min(20, math.ceil(steps / 10)), steps // 2000))
        if (minutes := self._config.max_minutes) is not None:
            counts.append(max(min(20, math.ceil(4 * minutes)), int(minutes / 10)))
        return min(counts)

    @property
    def steps_per_execution(self) -> int:
        """Steps of one call of Keras: no more than there are between validations.

        Validations come at the end of a call.
        """
        if self._config.steps is None:
            return self._most_steps
        return max(1, min(self._most_steps, self._config.steps // self.num_validations))

    @property
    def steps_left(self) -> int | None:
        """Steps to the end of the run, `None` if time alone ends it."""
        if self._config.steps is None:
            return None
        return self._config.steps - self._state.step

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the clock where the last session stopped it."""
        self._started = time.monotonic() - self._state.seconds

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Set the learning rate."""
        epoch = self.samples / self._config.epoch_size
        rate = self._recipe.learning_rate_at(self.progress, epoch, self.samples)
        self.model.optimizer.learning_rate = rate

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Count the steps."""
        done = self.steps_per_execution
        left = self.steps_left
        self._state.step += done if left is None else min(done, left)
        self._state.seconds = time.monotonic() - self._started
        if self.progress >= 1:
            self.model.stop_training = True


class Throughput(keras.callbacks.Callback):
    """Measures samples/s and the share of waiting since the last validation.

    Args:
        state: shared.
        batch_size: int.
        waiting: of the training data.
    """

    def __init__(
        self, state: TrainingState, batch_size: int, waiting: WaitMeter
    ) -> None:
        super().__init__()
        self._state = state
        self._batch_size = batch_size
        self._waiting = waiting
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._first_step = self._state.step
        self._started = time.monotonic()
        self._waited = self._waiting.seconds

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin when training does."""
        self.restart()

    def rates(self) -> tuple[float, float]:
        """Return samples/s and the share of the time spent waiting for channels."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        waited = self._waiting.seconds - self._waited
        samples = (self._state.step - self._first_step) * self._batch_size
        return samples / seconds, min(1.0, waited / seconds)


class StopOnDivergence(keras.callbacks.Callback):
    """Raises `TrainingDiverged` when the loss is no longer a finite number."""

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self._state = state

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Check the loss; as a running mean it stays infinite once it was."""
        loss = logs["loss"]
        if not math.isfinite(loss):
            step = self._state.step
            raise TrainingDiverged(f"The loss became {loss} at step {step}.")


def usual_error(errors: np.ndarray) -> float:
    """Return the mean of the errors without the largest hundredth.

    One sample in a thousand that is now and then located at the other end of a street
    decides an RMSE, and a mean as well; it shall not decide which weights are kept.

    Args:
        errors: [num_samples] [m].
    """
    kept = math.ceil(_USUAL_SHARE * len(errors))
    return float(np.mean(np.sort(errors)[:kept]))


class Validation(keras.callbacks.Callback):
    """Validates at even parts of the run and remembers the best weights.

    Best is the lowest `usual_error`.

    Args:
        state: shared.
        pace: tells the progress.
        throughput: its numbers go into the history.
        batches: frozen; (inputs, targets).
        run_dir: where `history.csv` and the TensorBoard logs go.
    """

    def __init__(
        self,
        state: TrainingState,
        pace: Pace,
        throughput: Throughput,
        batches: Iterable[tuple[dict[str, Any], dict[str, Any]]],
        run_dir: Path,
    ) -> None:
        super().__init__()
        self._state = state
        self._pace = pace
        self._throughput = throughput
        self._batches = batches
        self._history_file = run_dir / "history.csv"
        self._log = tf.summary.create_file_writer(str(run_dir / "logs"))

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Validate if another part of the run is done."""
        progress = self._pace.progress
        # The nudge undoes rounding, e.g. 0.15 * 20 -> 2.9999999999999996.
        part = math.floor(progress * self._pace.num_validations + 1e-9)
        if part <= self._state.validations:
            return
        self._state.validations = part
        self._record(logs["loss"])
        self.model.reset_metrics()
        release_unused_memory()
        self._throughput.restart()

    def _record(self, loss: float) -> None:
        """Validate and add a row to the history."""
        state = self._state
        samples_per_second, wait_share = self._throughput.rates()
        errors = self._validate()
        metrics = error_metrics(errors)
        if (error := usual_error(errors)) < state.best_error:
            state.best_error, state.best_step = error, state.step
            state.best_weights = self.model.get_weights()
        row = HistoryRow(
            step=state.step,
            samples=self._pace.samples,
            seconds=round(state.seconds, 3),
            learning_rate=float(self.model.optimizer.learning_rate),
            loss=float(loss),
            **{f"val_{name}": value for name, value in metrics.items()},
            samples_per_second=round(samples_per_second, 2),
            wait_share=round(wait_share, 4),
        )._asdict()
        state.history.append(row)
        write_history(self._history_file, state.history)
        self._write_log(row)

    def _validate(self) -> np.ndarray:
        """Return the horizontal errors of the validation set, [num_samples] [m]."""
        pairs = [
            (targets["position"], self.model.predict_on_batch(inputs)["position"])
            for inputs, targets in self._batches
        ]
        true, estimated = (np.concatenate(list(p)) for p in zip(*pairs, strict=True))
        if not np.isfinite(estimated).all():
            step = self._state.step
            raise TrainingDiverged(f"Estimates became infinite before step {step}.")
        return horizontal_errors(true, estimated)

    def _write_log(self, row: dict[str, float]) -> None:
        """Write a row for TensorBoard, which need not be installed for that."""
        summary = tf.compat.v1.Summary
        values = [summary.Value(tag=k, simple_value=v) for k, v in row.items()]
        with self._log.as_default(step=row["step"]):
            message = summary(value=values).SerializeToString()
            tf.summary.experimental.write_raw_pb(message)
        self._log.flush()
