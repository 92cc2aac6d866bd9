"""Checkpoints that survive `kill -9` at any moment.

A checkpoint is a folder `step-<number>` with `arrays.npz` and `state.json`. It is
written under another name, flushed to the disk and renamed, so that a folder of
that name is always whole.
"""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from sionna_loc.checks import UserError, check

_NAME = re.compile(r"step-(\d+)")
_NUM_KEPT = 2
_SECONDS_BETWEEN = 300


class TrainingDiverged(RuntimeError):
    """The loss or a weight became infinite or not a number."""


class HistoryRow(NamedTuple):
    """A validation, as `history.csv` has it; the errors are `metrics.error_metrics`.

    Attributes:
        step, samples: int. Seen by then.
        seconds: float [s]. Spent training by then, over all sessions.
        learning_rate: float.
        loss: float. Mean since the validation before.
        val_rmse, val_mae, val_p50, val_p90, val_p95: float [m].
        samples_per_second: float [1 / s]. Since the validation before.
        wait_share: float in [0, 1]. Share of that time spent waiting for channels.
    """

    step: int
    samples: int
    seconds: float
    learning_rate: float
    loss: float
    val_rmse: float
    val_mae: float
    val_p50: float
    val_p90: float
    val_p95: float
    samples_per_second: float
    wait_share: float


@dataclass
class TrainingState:
    """Where a training stands.

    Attributes:
        best_weights: values of `model.weights` at the best validation so far, the
            initial ones before the first.
        step: int. Steps done.
        seconds: float. Time spent training, validation included, over all sessions.
        validations: int. Parts of the run that ended with a validation.
        best_error: float [m]. At the best validation so far, see
            `callbacks.usual_error`.
        best_step: int. When that was.
        history: `HistoryRow` of each validation, as a dict.
    """

    best_weights: list[np.ndarray]
    step: int = 0
    seconds: float = 0.0
    validations: int = 0
    best_error: float = math.inf
    best_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def scalars(self) -> dict[str, Any]:
        """Return all but the weights, JSON-able."""
        return {k: v for k, v in vars(self).items() if k != "best_weights"}


def state_variables(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """Return all variables that a training changes, in named groups."""
    return {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path`: afterwards it holds all of the old or all of the new."""
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_checkpoint(
    folder: Path, step: int, arrays: Mapping[str, np.ndarray], state: dict[str, Any]
) -> Path:
    """Write the checkpoint of `step` and remove all but the newest two.

    Args:
        folder: where the checkpoints of the run lie; made if need be.
        step: int >= 0.
        arrays: by name.
        state: JSON-able.

    Returns: the checkpoint's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:08d}"
    temporary = folder / f".new-{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    with open(temporary / "arrays.npz", "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    write_atomically(temporary / "state.json", json.dumps(state))
    _sync(temporary)
    if target.exists():  # of the same step, so of the same content
        shutil.rmtree(target)
    os.rename(temporary, target)
    _sync(folder)
    for old in list_checkpoints(folder)[:-_NUM_KEPT]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the state of a checkpoint.

    Raises: UserError if it is truncated or damaged, with the way on.
    """
    try:
        with np.load(path / "arrays.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except Exception as error:  # zipfile, json, OS: whatever damage looks like
        older = [other for other in list_checkpoints(path.parent) if other != path]
        remedy = (
            f"Remove that folder to resume from the older {older[-1].name!r}."
            if older
            else "There is no older one; --overwrite starts the run anew."
        )
        raise UserError(
            f"The checkpoint is truncated or damaged ({type(error).__name__}). "
            f"{remedy} Received: checkpoint={str(path)!r}."
        ) from error
    return arrays, state


def variables_to_arrays(
    groups: dict[str, list[keras.Variable]],
) -> dict[str, np.ndarray]:
    """Return the values of named groups of variables, each under its own name."""
    return {
        f"{group}/{index:04d}": keras.ops.convert_to_numpy(variable.value)
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def assign_arrays(
    groups: dict[str, list[keras.Variable]], arrays: dict[str, np.ndarray]
) -> None:
    """Set variables to what `variables_to_arrays` returned.

    Raises: UserError if number or shapes differ; nothing is assigned then.
    """
    pairs = []
    for group, variables in groups.items():
        values = _stored_values(group, variables, arrays)
        pairs.extend(zip(variables, values, strict=True))
    for variable, value in pairs:
        variable.assign(value)


def _stored_values(
    group: str, variables: list[keras.Variable], arrays: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """Return a group's values; raise `UserError` if number or shapes differ."""
    values = []
    for index, variable in enumerate(variables):
        value = arrays.get(f"{group}/{index:04d}")
        check(
            value is not None and tuple(value.shape) == tuple(variable.shape),
            f"The checkpoint is of another version of the model (its {group!r}).",
            variable=variable.path,
            shape=tuple(variable.shape),
            stored=None if value is None else value.shape,
        )
        values.append(value)
    return values


def restore(model: keras.Model, path: Path) -> TrainingState:
    """Set a compiled model to a checkpoint and return where the training stands.

    Raises: UserError if the checkpoint is damaged, or of another version of the
        model or of the library; nothing is changed then.
    """
    arrays, scalars = read_checkpoint(path)
    differing = _differing_scalars(scalars if isinstance(scalars, dict) else {})
    check(
        not differing,
        "The checkpoint is of another version of the library; --overwrite starts the "
        "run anew.",
        checkpoint=str(path),
        differing=differing,
    )
    best = _stored_values("best", model.weights, arrays)
    assign_arrays(state_variables(model), arrays)
    return TrainingState(best_weights=best, **scalars)


def _differing_scalars(scalars: dict[str, Any]) -> list[str]:
    """Return what is missing, unknown or of the wrong type in a stored state."""
    expected = TrainingState([]).scalars()
    wrong = set(scalars) ^ set(expected)
    for name in set(scalars) & set(expected):
        kind = type(expected[name])
        if not isinstance(scalars[name], int | float if kind is float else kind):
            wrong.add(name)
    columns = set(HistoryRow._fields)
    for row in scalars["history"] if not wrong else ():
        found = row if isinstance(row, dict) else {}
        values = {k for k, v in found.items() if not isinstance(v, int | float)}
        wrong |= {f"history.{name}" for name in (columns ^ set(found)) | values}
    return sorted(wrong)


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint after each validation, and after five minutes without.

    Args:
        state: shared.
        folder: where they go.
    """

    def __init__(self, state: TrainingState, folder: Path) -> None:
        super().__init__()
        self._state = state
        self._folder = folder
        self._validations = state.validations
        self._last = time.monotonic()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Write one if it is time."""
        validated = self._state.validations > self._validations
        if validated or time.monotonic() - self._last > _SECONDS_BETWEEN:
            self.write()

    def write(self) -> Path:
        """Write a checkpoint of now.

        Raises: TrainingDiverged if a value is not finite; nothing is written then.
        """
        state = self._state
        arrays = variables_to_arrays(state_variables(self.model))
        for array in arrays.values():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise TrainingDiverged(
                    f"A weight became infinite at step {state.step}."
                )
        for index, weights in enumerate(state.best_weights):
            arrays[f"best/{index:04d}"] = weights
        path = write_checkpoint(self._folder, state.step, arrays, state.scalars())
        self._validations = state.validations
        self._last = time.monotonic()
        return path


def _sync(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
