"""How a stored set is written: recipe, configuration, progress, no two at a time."""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from sionna_loc.assembly import make_scenario
from sionna_loc.checks import UserError, check, check_known, make_writable
from sionna_loc.data import checksums
from sionna_loc.data.storage import SampleSetBuilder, SampleSetConfig, beam_config
from sionna_loc.recipes import RunConfig

RECIPES = Path(__file__).parent.parent / "datasets"
_SECONDS_PER_LINE = 10.0


def find_builder_class(name: str, recipes: str | os.PathLike) -> type[SampleSetBuilder]:
    """Import a recipe, from a folder that is no package, and return its builder.

    Args:
        name: of the scenario.
        recipes: folder that holds `<name>/<name>_dataset_builder.py`.

    Raises: UserError if it is not there.
    """
    check(
        Path(recipes).is_dir(),
        "The recipes of stored sets are in the folder datasets/ of the repository: "
        "run this from a clone, or name a copy of the folder.",
        recipes=str(recipes),
    )
    path = Path(recipes) / name / f"{name}_dataset_builder.py"
    check(path.is_file(), "There is no recipe for a stored set.", recipe=str(path))
    module_name = f"{name}_dataset_builder"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        sys.modules[module_name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[module_name].Builder


def make_config(
    builder_class: type[SampleSetBuilder],
    base_name: str | None,
    sizes: dict[str, int | None],
    options: dict[str, Any],
) -> SampleSetConfig:
    """Return a configuration, under a name of its own if it is none of the recipe's.

    Args:
        builder_class: of the recipe.
        base_name: of the recipe's configuration to start from, its first if None.
        sizes: fields of `SampleSetConfig`; `None` for those of the start.
        options: further arguments of the scenario.

    Raises: UserError if there is no such configuration or a value cannot be.
    """
    known = {config.name: config for config in builder_class.BUILDER_CONFIGS}
    if base_name is not None:
        check_known(f"configuration of {builder_class.name}", base_name, known)
    base = known[base_name or next(iter(known))]
    given: dict[str, Any] = {k: v for k, v in sizes.items() if v is not None}
    for name, value in given.items():
        least = 1 if name == "shard_size" else 0
        ok = least <= value < 2**31
        check(ok, f"`{name}` must be a whole number of {least} or more.", **given)
    given["options"] = {**base.options, **options}
    config = dataclasses.replace(base, **given)
    check(bool(config.sizes()), "The set would be empty.", **given)
    _check_options(builder_class.name, config.options)
    if all(getattr(base, name) == value for name, value in given.items()):
        return base
    numbers = f"{config.num_train}-{config.num_val}-{config.num_test}"
    name = f"{base.name}-{numbers}-s{config.seed}"
    if config.options != base.options:
        text = json.dumps(config.options, sort_keys=True)
        name += f"-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return dataclasses.replace(config, name=name)


def _check_options(scenario: str, options: dict[str, Any]) -> None:
    """Raise `UserError`, as a training would, if the scenario cannot be made."""
    options = dict(options)
    small = bool(options.pop("small", False))
    make_scenario(RunConfig(scenario=scenario, scenario_options=options, small=small))


def make_data_dir(data_dir: Path) -> None:
    """Make the folder of all sets if need be; raise `UserError` if it cannot be."""
    if "://" in str(data_dir):
        return
    make_writable("The data folder", data_dir)


def prepare(
    builder: SampleSetBuilder,
    *,
    beam_options: Sequence[str] = (),
    quiet: bool = False,
) -> Path:
    """Write a set, or go on writing it; one that is there already is only checked.

    Args:
        builder: of the recipe, with folder and configuration.
        beam_options: of an Apache Beam pipeline to write with, see `beam_config`;
            the set is written here and now if empty.
        quiet: bool. Print nothing.

    Returns: the folder of the set.
    Raises: UserError if another process is at it, it cannot be written, or the set that
        is there is damaged.
    """
    with _alone(builder.data_path):
        if builder.data_path.exists():
            checksums.check_files(os.fspath(builder.data_path))
        else:
            _write(builder, beam_options, quiet)
    return Path(builder.data_path)


@contextlib.contextmanager
def _alone(folder: Any) -> Iterator[None]:
    """Keep other processes from writing the same set, and remove what they left.

    TFDS writes into `incomplete.<random>_<version>` beside the set; a killed process
    leaves that behind. Its finished shards are kept elsewhere.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if "://" in str(folder):  # a store without locks
        yield
        return
    with open(folder.parent / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                "Another process is preparing that set. "
                f"Received: folder={str(folder)!r}."
            ) from error
        for rest in Path(folder.parent).glob(f"incomplete.*_{folder.name}"):
            shutil.rmtree(rest)
        yield


def _write(builder: SampleSetBuilder, beam_options: Sequence[str], quiet: bool) -> None:
    """Write a set that is not there yet."""
    download_config, show = None, contextlib.nullcontext()
    if beam_options:
        download_config = beam_config(beam_options)
    elif not quiet:
        show = _Progress(sum(builder.builder_config.sizes().values()))
        builder.report = show.add
    with show, contextlib.redirect_stdout(None):  # TFDS speaks of downloads
        try:
            builder.download_and_prepare(
                download_config=download_config,
                download_dir=os.fspath(builder.unfinished_path),  # for nothing
            )
        except tf.errors.OpError as error:  # a full disk, a store that is not reached
            raise UserError(
                f"The set cannot be written: {error.message} "
                f"Received: folder={os.fspath(builder.data_path)!r}."
            ) from error


class _Progress:
    """Shows how far the writing is: a bar on a terminal, else lines.

    Args:
        total: int > 0. Number of samples.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._kept = 0
        self._split = ""
        self._started = self._shown = time.monotonic()
        self._bar: tqdm | None = None
        self._out = sys.stdout

    def __enter__(self) -> "_Progress":
        """Begin to show, on a terminal."""
        if self._out.isatty():
            self._bar = tqdm(total=self._total, unit=" samples", file=self._out)
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.close()
        elif self._done:
            self._print()

    def add(self, split: str, is_kept: bool) -> None:
        """Count a sample."""
        self._split = split
        self._done += 1
        self._kept += is_kept
        if is_kept or self._done == self._kept + 1:
            # The pace is that of the drawing, and not of setting it up.
            self._started = time.monotonic()
        if self._bar is not None:
            self._bar.set_description(split, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._shown > _SECONDS_PER_LINE:
            self._print()

    def _print(self) -> None:
        """Print a line."""
        self._shown = time.monotonic()
        drawn = self._done - self._kept - 1
        rate = max(drawn, 0) / max(self._shown - self._started, 1e-9)
        eta = tqdm.format_interval((self._total - self._done) / rate) if rate else "?"
        kept = f", {self._kept:,} of them kept" if self._kept else ""
        print(
            f"{self._split}: {self._done:,} of {self._total:,} samples{kept}, "
            f"{rate:,.0f} samples/s, ETA {eta}",
            file=self._out,
            flush=True,
        )
