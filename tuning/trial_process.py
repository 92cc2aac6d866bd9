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

from sionna_loc import cli, training
from sionna_loc.recipes import RunConfig

_INTERRUPTED = "interrupted"


def train(config: RunConfig, run_dir: Path, resume: bool, quiet: bool) -> None:
    """Train in a new process and wait for it; see `training.fit`.

    Ctrl-C and SIGTERM end the training with a checkpoint, and so does the end of this
    process, whatever ends it.

    Raises:
        KeyboardInterrupt: if the training was interrupted.
        RuntimeError: if it failed, with the reason.
    """
    # A forked process would inherit TensorFlow's and Dr.Jit's threads as dead ones.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, config, run_dir, resume, quiet)
    process = context.Process(target=_train, args=arguments)
    with _sigterm_interrupts():
        process.start()
        sender.close()  # so that the end of the process ends the waiting
        try:
            outcome = receiver.recv()
        except EOFError:
            process.join()
            outcome = f"Its process ended with exit code {process.exitcode}."
        except KeyboardInterrupt:
            process.terminate()
            raise
        finally:
            process.join()
    if outcome == _INTERRUPTED:
        raise KeyboardInterrupt
    if outcome is not None:
        raise RuntimeError(outcome)


def _train(
    sender: Connection, config: RunConfig, run_dir: Path, resume: bool, quiet: bool
) -> None:
    """Train, in the new process, and send what failed, or None."""
    # A second signal would cost the checkpoint: Ctrl-C is the other process's alone.
    os.setpgrp()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outcome = None
    try:
        training.fit(config, run_dir, resume=resume, quiet=quiet)
    except training.TrainingInterrupted:
        outcome = _INTERRUPTED
    except Exception as error:
        outcome = f"{type(error).__name__}: {cli.one_line(error)}"
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
