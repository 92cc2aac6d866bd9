"""A trial's training in a process of its own.

What TensorFlow has compiled, about half a gigabyte for VIn-Loc, stays until its process
ends; and a process that the system kills, for its memory say, takes nothing else down.
Beside `localizer_search`, for which it is.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from sionna_loc import cli, saving, training
from sionna_loc.recipes import RunConfig

_INTERRUPTED = "interrupted"


def train(config: RunConfig, run_dir: Path, quiet: bool) -> None:
    """Train a trial, or go on with it, in a new process and wait for it.

    Ctrl-C and SIGTERM end the training with a checkpoint, and so does the end of this
    process, whatever ends it.

    Args:
        config: of the trial.
        run_dir: its run folder, which may hold what has been trained so far.
        quiet: bool. Print nothing.

    Raises:
        KeyboardInterrupt: if the training was interrupted.
        RuntimeError: if it failed, with the reason.
    """
    outcome = in_new_process(config, run_dir, quiet)
    if outcome == _INTERRUPTED:  # no failure: the search ends
        raise KeyboardInterrupt
    if outcome is not None:
        raise RuntimeError(outcome)


def fit(config: RunConfig, run_dir: Path, quiet: bool) -> str | None:
    """Train in this process, see `training.fit`; return what failed, or None."""
    resume = (run_dir / saving.CONFIG).exists()
    try:
        training.fit(config, run_dir, resume=resume, quiet=quiet)
    except training.TrainingInterrupted:
        return _INTERRUPTED
    except Exception as error:
        return f"{type(error).__name__}: {cli.one_line(error)}"
    return None


def in_new_process(*arguments: Any) -> str | None:
    """Return what `fit` returns with these arguments in a process of its own."""
    # A forked process would inherit TensorFlow's and Dr.Jit's threads as dead ones.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_outcome, args=(sender, *arguments))
    with _sigterm_interrupts():
        process.start()
        sender.close()  # so that the end of the process ends the waiting
        try:
            return receiver.recv()
        except EOFError:
            process.join()
            return f"Its process ended with exit code {process.exitcode}."
        except KeyboardInterrupt:
            process.terminate()
            raise
        finally:
            process.join()


def _send_outcome(sender: Connection, *arguments: Any) -> None:
    """Train, in the new process."""
    # A second signal would cost the checkpoint: Ctrl-C is the other process's alone.
    os.setpgrp()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outcome = fit(*arguments)
    with contextlib.suppress(BrokenPipeError):  # nobody is left to hear it
        sender.send(outcome)


def _end_with_parent() -> None:
    """Interrupt this process when the one that started it has ended."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, where this thread may say so."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
