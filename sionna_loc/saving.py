"""The run folder: configuration, versions, weights, history, metrics.

config.json     the whole configuration, the scenario's included, seed, versions,
                device, command line
model.keras     the model with its best weights
baseline.keras  the classical baseline, as calibrated for the report
history.csv     one row per validation: step, loss, validation error, ...
metrics.json    on the frozen test set; written last, so a run that has it is done
evaluation.json what `evaluate` found, over numbers of TRPs;
                evaluation-measured.json the same on measurements
evaluations/    the same on other scenarios, or with other options of the run's
figures/        error CDF, map of errors, training curve; of models that give a density
                the calibration curve, and, if it is a map, the maps of a few samples
checkpoints/    what `--resume` continues from
logs/           the history for TensorBoard
"""

import contextlib
import csv
import fcntl
import importlib.metadata
import io
import json
import os
import platform
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import sionna_loc
from sionna_loc.checkpoints import write_atomically
from sionna_loc.checks import UserError, check
from sionna_loc.device import current_device
from sionna_loc.models.base import Localizer
from sionna_loc.registry import get_model_class, get_model_name

CONFIG = "config.json"
MODEL = "model.keras"
BASELINE = "baseline.keras"
HISTORY = "history.csv"
METRICS = "metrics.json"
EVALUATION = "evaluation.json"
MEASURED_EVALUATION = "evaluation-measured.json"
EVALUATIONS = "evaluations"
FIGURES = "figures"
CHECKPOINTS = "checkpoints"
LOGS = "logs"
_LOCK = ".lock"
_FILES = (METRICS, EVALUATION, MEASURED_EVALUATION, MODEL, BASELINE, HISTORY, CONFIG)
_FOLDERS = (EVALUATIONS, FIGURES, CHECKPOINTS, LOGS)
_OWN_ENTRIES = (*_FILES[:-1], *_FOLDERS, CONFIG)  # CONFIG last: until then it is a run
_TEMPORARY = {form.format(name) for form in (".new-{}", ".{}.new") for name in _FILES}
_RECORD = {"config": dict, "resolved": dict, "fingerprint": str}


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Make the run folder if need be and keep other processes from training in it.

    The lock dies with the process, however that ends.

    Raises: UserError if another process has it, or the folder cannot be made.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = open(run_dir / _LOCK, "a")
    except OSError as error:
        raise UserError(
            f"The run folder cannot be written: {error.strerror}. "
            f"Received: run_dir={str(run_dir)!r}."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                "Another process is training in the run folder. "
                f"Received: run_dir={str(run_dir)!r}."
            ) from error
        yield


def check_run_dir(run_dir: Path, overwrite: bool) -> None:
    """Check that a new run may use the folder; nothing in it is touched.

    Raises: UserError if the folder holds a run that may not be overwritten, or
        something that is no run.
    """
    if not run_dir.is_dir():
        return
    if all(path.name in {_LOCK, *_TEMPORARY} for path in run_dir.iterdir()):
        return
    is_run = _holds_run(run_dir)
    message = (
        "The folder holds a run. Continue it with --resume, replace it with "
        "--overwrite, or choose another --run-dir."
        if is_run
        else "The folder is not empty and holds no run: choose another --run-dir."
    )
    check(is_run and overwrite, message, run_dir=str(run_dir))


def _holds_run(run_dir: Path) -> bool:
    """Return whether `config.json` is there and a run's."""
    try:
        read_run(run_dir)
    except UserError:
        return False
    return True


def sweep(run_dir: Path) -> None:
    """Remove the temporary files that a killed process left in a run's folder."""
    for name in _TEMPORARY:
        (run_dir / name).unlink(missing_ok=True)
    for path in (run_dir / CHECKPOINTS).glob(".new-step-*"):
        shutil.rmtree(path)


def prepare_run_dir(run_dir: Path, overwrite: bool) -> None:
    """Empty the folder of a new run of an old one.

    Only what a run writes is removed, nothing else that lies in the folder.

    Raises: UserError as `check_run_dir`.
    """
    check_run_dir(run_dir, overwrite)
    sweep(run_dir)
    for name in _OWN_ENTRIES:
        path = run_dir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    names = ("tensorflow", "keras", "sionna", "sionna-rt", "mitsuba", "drjit", "numpy")
    found = {"python": platform.python_version(), "sionna_loc": sionna_loc.__version__}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` to `path`, all or nothing."""
    write_atomically(path, json.dumps(values, indent=2) + "\n")


def read_run(run_dir: str | Path, name: str = CONFIG) -> dict[str, Any]:
    """Return what a JSON file of a run holds.

    Raises: UserError if the folder is no run's, or the file is damaged or of
        something else.
    """
    path = Path(run_dir) / name
    check(path.is_file(), f"The folder holds no run ({name} is missing).", run=run_dir)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{name} is damaged: {error}. Received: run={str(run_dir)!r}."
        ) from error
    expected = _RECORD if name == CONFIG else {}
    check(
        isinstance(values, dict)
        and all(isinstance(values.get(key), kind) for key, kind in expected.items()),
        f"The folder holds no run of this version ({name} is of something else).",
        run=str(run_dir),
    )
    return values


def read_list(path: Path) -> list[dict[str, Any]]:
    """Return the list that a JSON file of an experiment holds.

    Raises: UserError if the file is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"The file is damaged: {error}; delete it, and it is made again. "
            f"Received: file={str(path)!r}."
        ) from error
    check(isinstance(values, list), "The file holds no list.", file=str(path))
    return values


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the rows, which have the same keys, as CSV."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def read_history(run_dir: str | Path) -> list[dict[str, float]]:
    """Return the rows of a run's history.

    Raises: UserError if there is none, or it is damaged.
    """
    path = Path(run_dir) / HISTORY
    check(path.is_file(), f"There is no {HISTORY}.", run=str(run_dir))
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [
                {name: float(value) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (AttributeError, TypeError, ValueError) as error:  # too many, too few, text
        raise UserError(
            f"{HISTORY} is damaged: {error}. Received: run={str(run_dir)!r}."
        ) from error
    check(len(rows) > 0, f"{HISTORY} holds no validation.", run=str(run_dir))
    return rows


def save_model(model: keras.Model, path: Path) -> None:
    """Write the model, all or nothing."""
    temporary = path.with_name(f".new-{path.name}")
    model.save(temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_model(run: str | Path) -> Localizer:
    """Return the trained model of a run.

    Args:
        run: a run's folder, or a `.keras` file that one holds.

    Raises: UserError if there is no model, if it is damaged, or if it is not a
        localizer of this library.
    """
    current_device()  # Before variables are made, which fixes the devices.
    path = Path(run)
    if path.is_dir():
        path = path / MODEL
    check(path.is_file(), f"There is no model ({path.name} is missing).", run=str(run))
    try:
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json"))
        class_name = config.get("registered_name") or config["class_name"]
    except (zipfile.BadZipFile, KeyError, AttributeError, ValueError, OSError) as error:
        raise UserError(
            f"The model is truncated or no Keras model. Received: run={str(run)!r}."
        ) from error
    package, _, own_name = class_name.rpartition(">")
    name = get_model_name(own_name) if package == "sionna_loc" else None
    check(
        name is not None,
        "The model is not a localizer of this library.",
        run=str(run),
        model=class_name,
    )
    get_model_class(name)  # an imported class is one Keras can rebuild
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever Keras says about a file that does not fit
        raise UserError(
            "The model cannot be loaded; it may be damaged or of another version: "
            f"{error} Received: run={str(run)!r}."
        ) from error


def set_initial_weights(model: Localizer, run: str) -> None:
    """Set a new model to the weights of a trained one, the scales included.

    The new model may have `Localizer.widening_options` that the trained one has not.
    What its layers see besides then counts for nothing to begin with, and what they say
    besides is that of an untrained model. So are its `Localizer.added_layers` where the
    trained one has none, or has those of another region. Samples that the trained one
    remembers are not taken.

    Args:
        model: to be trained, its region and other arguments without weights its own.
        run: folder of a finished run, or the `.keras` file that one holds.

    Raises: UserError if there is no such model, or its weights do not fit.
    """
    trained = load_model(run)
    check(
        type(trained) is type(model),
        f"The weights to begin with are another model's than {model.name}.",
        init_from=run,
        model=trained.name,
    )
    there, here = trained.get_config(), model.get_config()
    is_moved = there["region"] != here["region"]
    anew = {
        arguments: layers
        for arguments, layers in model.added_layers.items()
        if here[arguments[0]] and (is_moved or not there.get(arguments[0]))
    }
    anew |= model.memory_layers
    unused = [x for x in model.added_layers if not (here[x[0]] or there.get(x[0]))]
    sizes = {name for arguments in (*anew, *unused) for name in arguments}
    differing = [
        name
        for name in here
        if name not in {"name", *sizes} and there.get(name) != here[name]
    ]
    untrained = [layer for layers in anew.values() for layer in layers]
    known, weights = (
        [x for x in each.weights if not any(layer in x.path for layer in untrained)]
        for each in (trained, model)
    )
    shapes = [[tuple(x.shape) for x in each] for each in (known, weights)]
    check(
        shapes[0] == shapes[1] or _is_wider(model, there, here, differing),
        "The weights to begin with do not fit; the two models differ in "
        f"{', '.join(differing) or 'their scenario'}.",
        init_from=run,
    )
    for weight, old in zip(weights, known, strict=True):
        old, initial = map(keras.ops.convert_to_numpy, (old, weight))
        weight.assign(_widened(old, initial))


def _is_wider(
    model: Localizer,
    there: dict[str, Any],
    here: dict[str, Any],
    differing: Sequence[str],
) -> bool:
    """Whether a model sees and says more than another, and that after all else.

    Args:
        model: the new one.
        there: arguments of the trained one.
        here: arguments of the new one.
        differing: names of the arguments that differ.
    """
    options = model.widening_options
    before = [name for name in options if there.get(name)]
    after = [name for name in options if here[name]]
    return set(differing) <= {*options, "region"} and after[: len(before)] == before


def _widened(known: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """Return a weight of a wider layer that begins with what is known of it.

    Args:
        known: of the trained layer; a kernel if it has two axes, inputs first.
        initial: of the untrained wider one.
    """
    value = initial.copy()
    if value.ndim == 2:
        value[known.shape[0] :] = 0
    value[tuple(map(slice, known.shape))] = known
    return value
