"""Ctrl-C and SIGTERM: a training ends with a checkpoint."""

import signal
from types import FrameType
from typing import Any

import keras

from sionna_loc.checkpoints import Checkpoints


class TrainingInterrupted(RuntimeError):
    """A signal ended the training; a checkpoint was written.

    Args:
        signal_number: int.
        step: int. Of the checkpoint.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"Interrupted at step {step}.")
        self.signal_number = signal_number
        self.step = step


class Interrupts(keras.callbacks.Callback):
    """Ends the training at Ctrl-C or SIGTERM with a checkpoint of the last step.

    A context manager around `fit`; a second Ctrl-C interrupts at once. Afterwards
    `received` is the number of the signal, if there was one.

    Args:
        checkpoints: writes the checkpoint.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        super().__init__()
        self._checkpoints = checkpoints
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        """Take over the signals, as only the main thread may."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread: the caller's business
            self._previous.clear()
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Stop here if a signal came."""
        if self.received is not None:
            self._checkpoints.write()
            self.model.stop_training = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
