"""Whether what is resumed is still the run that began."""

import inspect
import json
from pathlib import Path
from typing import Any

from sionna_loc.checks import check
from sionna_loc.models.base import Localizer
from sionna_loc.registry import get_model_class

_KERAS_ARGUMENTS = ("name", "trainable", "dtype")  # of every model


def model_arguments(model: Localizer) -> dict[str, Any]:
    """Return the arguments of a model's constructor, as JSON holds them."""
    config = model.get_config()
    own = {name: x for name, x in config.items() if name not in _KERAS_ARGUMENTS}
    return json.loads(json.dumps(own))


def check_same_run(old: dict[str, Any], new: dict[str, Any], run_dir: Path) -> None:
    """Raise `UserError` unless both records are of the same run.

    Args:
        old: as the run folder holds it. Without `model`, as versions of the library
            wrote it that kept the preset's name only, the model is not compared.
        new: of `make_record`, and `model`, its `model_arguments`.
        run_dir: the folder.
    """
    for part in ("config", "resolved"):
        for name, value in new[part].items():
            check(
                old[part].get(name) == value,
                f"The run in {run_dir} has another configuration: its `{name}` is "
                f"{old[part].get(name)!r}. Resume without changes, or choose another "
                "--run-dir.",
                **{name: value},
            )
    check(
        old["fingerprint"] == new["fingerprint"],
        f"The scenario is no longer the one that the run in {run_dir} began with.",
        fingerprint=new["fingerprint"][:12],
        began_with=old["fingerprint"][:12],
    )
    check(
        old.get("prepared") == new.get("prepared"),
        f"The prepared set is no longer the one that the run in {run_dir} began with.",
        data_dir=new["config"].get("data_dir"),
    )
    if "model" in old:
        _check_same_model(old["model"], new, run_dir)


def _check_same_model(
    began: dict[str, Any], new: dict[str, Any], run_dir: Path
) -> None:
    """Raise `UserError` unless a run that `began` with a model has it still.

    A preset of the same name may have become another one. An argument that there was
    not yet is compared with that with which models of before are loaded.
    """
    model_class = get_model_class(new["config"]["model"])
    parameters = inspect.signature(model_class).parameters
    for name, value in new["model"].items():
        known = began.get(name)
        if name not in began and name in parameters:
            known = parameters[name].default
            known = model_class.arguments_before.get(name, known)
        known = list(known) if isinstance(known, tuple) else known
        check(
            known == value,
            f"The model is no longer the one that the run in {run_dir} began with: "
            f"there its `{name}` is {known!r}. Resume with the version of the library "
            "that it began with, or choose another --run-dir.",
            **{name: value},
        )
