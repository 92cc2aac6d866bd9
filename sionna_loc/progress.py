"""What a training shows of itself while it runs."""

import sys
import time
from typing import Any

import keras
from tqdm import tqdm

from sionna_loc.callbacks import Pace, Throughput
from sionna_loc.checkpoints import TrainingState

_REDRAW_SECONDS = 0.5


class ProgressLine(keras.callbacks.Callback):
    """Shows how far the training is: a bar on a terminal, else a line per validation.

    Args:
        state: shared.
        pace: tells the progress.
        throughput: tells samples/s and waiting.
    """

    def __init__(
        self, state: TrainingState, pace: Pace, throughput: Throughput
    ) -> None:
        super().__init__()
        self._state = state
        self._pace = pace
        self._throughput = throughput
        self._shown_rows = len(state.history)
        self._bar: tqdm | None = None
        self._drawn = 0.0
        self._has_begun = False

    def __enter__(self) -> "ProgressLine":
        """Start the clock of this session, and the bar."""
        self._start_clock()
        if sys.stdout.isatty():
            form = "{percentage:3.0f}%|{bar}|{desc}"
            self._bar = tqdm(total=1.0, bar_format=form, file=sys.stdout, leave=True)
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Redraw the bar, or print the line of a new validation."""
        if not self._has_begun:  # the first step compiles: no measure of the pace
            self._start_clock()
            self._has_begun = True
        rows = self._state.history
        if self._bar is not None:
            if time.monotonic() - self._drawn > _REDRAW_SECONDS:
                self._redraw(logs["loss"])
        elif len(rows) > self._shown_rows:
            self._shown_rows = len(rows)
            row = rows[-1]
            rates = (row["samples_per_second"], row["wait_share"])
            print(f"{self._pace.progress:4.0%} {self._text(row['loss'], *rates)}")
            sys.stdout.flush()

    def _start_clock(self) -> None:
        self._started = time.monotonic()
        self._start_progress = self._pace.progress

    def _redraw(self, loss: float) -> None:
        self._drawn = time.monotonic()
        self._bar.set_description_str(
            self._text(loss, *self._throughput.rates()), refresh=False
        )
        self._bar.n = self._pace.progress
        self._bar.refresh()

    def _text(self, loss: float, samples_per_second: float, wait_share: float) -> str:
        """Return loss, validation error, samples/s, share of waiting, ETA."""
        history = self._state.history
        validation = f"{history[-1]['val_rmse']:.2f} m" if history else "-"
        return (
            f" step {self._state.step}, loss {loss:.2f}, val. RMSE {validation}, "
            f"{samples_per_second:.0f} samples/s, waiting {wait_share:.0%}, "
            f"ETA {self._eta()}"
        )

    def _eta(self) -> str:
        """Return the time that is left, from this session's pace."""
        done = self._pace.progress - self._start_progress
        if done <= 0:
            return "?"
        spent = time.monotonic() - self._started
        return tqdm.format_interval(spent * (1 - self._pace.progress) / done)
