"""Draw a set of samples once, and store it for training, here or elsewhere.

    python -m sionna_loc.prepare --scenario paris_scn1 --data-dir data \
        --num-train 100000 --num-test 2000
    python -m sionna_loc.train --scenario paris_scn1 --data-dir data

Stopped by Ctrl-C or `kill -9`, the same command goes on: shards that are finished are
kept. The same command and seed give the same files. TensorFlow Datasets reads the set
without this library; `docs/stored_data.md` describes it.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sionna_loc import cli
from sionna_loc.checks import UserError, check, check_known, check_writable
from sionna_loc.recipes import RunConfig
from sionna_loc.registry import SCENARIOS

_RECIPES = Path(__file__).parent.parent / "datasets"
_SECONDS_PER_LINE = 10.0
_SIZES = {
    "num_train": ("N", "UEs of the training split"),
    "num_val": ("N", "UEs of the validation split"),
    "num_test": ("N", "UEs of the test split"),
    "seed": ("N", "of all that is drawn (default: 0, as training runs have it)"),
    "shard_size": ("N", "samples of a shard (default: 4096)"),
}


def build_parser() -> cli.Parser:
    """Return the parser."""
    parser = cli.make_parser("prepare", __doc__)
    parser.add_argument(
        "--scenario",
        metavar="NAME",
        required=True,
        help=f"one of: {', '.join(sorted(SCENARIOS))}",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        required=True,
        help="folder of all sets; this one becomes DIR/<scenario>/<config>/<version>",
    )
    for name, (metavar, text) in _SIZES.items():
        if "default" not in text:
            text += " (default: the configuration's)"
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, metavar=metavar, help=text)
    configs = parser.add_mutually_exclusive_group()
    configs.add_argument(
        "--config",
        metavar="NAME",
        help="configuration of the recipe to start from (default: its first)",
    )
    configs.add_argument(
        "--small",
        dest="config",
        action="store_const",
        const="small",
        help="the small form of the scenario: the same as --config small",
    )
    parser.add_argument(
        "--scenario-option",
        dest="options",
        metavar="KEY=VALUE",
        type=cli.key_value,
        action="append",
        default=[],
        help="further argument of the scenario, VALUE as JSON; may be repeated",
    )
    _add_how(parser)
    return parser


def _add_how(parser: argparse.ArgumentParser) -> None:
    """Add what does not change the set."""
    parser.add_argument(
        "--beam-option",
        dest="beam_options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="write with Apache Beam: option of its pipeline, such as "
        "runner=DirectRunner; may be repeated",
    )
    parser.add_argument(
        "--recipes",
        type=Path,
        metavar="DIR",
        default=_RECIPES,
        help="folder of the recipes (default: datasets/ of a clone of the repository)",
    )
    parser.add_argument("--quiet", action="store_true", help="print the result only")
    cli.add_device(parser)


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and write the set; return the exit code."""
    arguments = build_parser().parse_args(argv)
    check_known("scenario", arguments.scenario, SCENARIOS)
    check(
        arguments.recipes.is_dir(),
        "The recipes of stored sets are in the folder datasets/ of the repository: "
        "run this from a clone, or name a copy of the folder with --recipes.",
        recipes=str(arguments.recipes),
    )
    with cli.quiet_imports():
        from sionna_loc.data import storage
        from sionna_loc.device import use_device

    logging.getLogger("absl").setLevel(logging.ERROR)
    builder_class = storage.find_builder_class(arguments.scenario, arguments.recipes)
    config = _make_config(builder_class, arguments)
    _make_folder(arguments.data_dir)
    device = use_device(arguments.device).description
    if not arguments.quiet:
        print(device, flush=True)
    builder = builder_class(data_dir=str(arguments.data_dir), config=config)
    with _alone(builder.data_path):
        _write(builder, arguments)
    print(f"Saved in {builder.data_path}")
    return 0


def _make_config(builder_class: Any, arguments: argparse.Namespace) -> Any:
    """Return the configuration asked for, under a name of its own if it is changed."""
    from sionna_loc.assembly import make_scenario

    known = {config.name: config for config in builder_class.BUILDER_CONFIGS}
    base = builder_class.BUILDER_CONFIGS[0]
    if arguments.config is not None:
        check_known(f"configuration of {arguments.scenario}", arguments.config, known)
        base = known[arguments.config]
    given = {name: getattr(arguments, name) for name in _SIZES}
    for name, value in given.items():
        least = 1 if name == "shard_size" else 0
        ok = value is None or least <= value < 2**31
        check(ok, f"`{name}` must be {least} or more.", **{name: value})
    given = {name: value for name, value in given.items() if value is not None}
    given["options"] = {**base.options, **dict(arguments.options)}
    config = dataclasses.replace(base, **given)
    small = {"small": bool(config.options.get("small"))}
    options = {k: v for k, v in config.options.items() if k != "small"}
    make_scenario(RunConfig(arguments.scenario, scenario_options=options, **small))
    if all(getattr(base, name) == value for name, value in given.items()):
        return base
    sizes = f"{config.num_train}-{config.num_val}-{config.num_test}"
    name = f"{base.name}-{sizes}-s{config.seed}"
    if config.options != base.options:
        text = json.dumps(config.options, sort_keys=True)
        name += f"-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return dataclasses.replace(config, name=name)


def _make_folder(data_dir: Path) -> None:
    """Make the folder of all sets if need be; raise `UserError` if it cannot be."""
    if "://" in str(data_dir):
        return
    with contextlib.suppress(OSError):  # what is wrong, the check says
        data_dir.mkdir(parents=True, exist_ok=True)
    check_writable("The data folder", data_dir)


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


def _write(builder: Any, arguments: argparse.Namespace) -> None:
    """Write the set, unless it is there."""
    import tensorflow as tf

    from sionna_loc.data import checksums, storage

    if builder.data_path.exists():
        checksums.check_files(str(builder.data_path))
        return
    download_config = None
    show = contextlib.nullcontext()
    if arguments.beam_options:
        download_config = storage.beam_config(arguments.beam_options)
    elif not arguments.quiet:
        show = _Progress(sum(builder.builder_config.sizes().values()))
        builder.report = show.add
    with show, contextlib.redirect_stdout(None):  # TFDS speaks of downloads
        try:
            builder.download_and_prepare(
                download_config=download_config,
                download_dir=str(builder.unfinished_path),  # nothing is downloaded
            )
        except tf.errors.OpError as error:  # a full disk, a store that is not reached
            raise UserError(
                f"The set cannot be written: {error.message} "
                f"Received: data_dir={str(arguments.data_dir)!r}."
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
        else:
            self._print()

    def add(self, split: str, is_kept: bool) -> None:
        """Count a sample."""
        self._split = split
        self._done += 1
        self._kept += is_kept
        if is_kept:  # the pace is that of the drawing
            self._started = time.monotonic()
        if self._bar is not None:
            self._bar.set_description(split, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._shown > _SECONDS_PER_LINE:
            self._print()

    def _print(self) -> None:
        """Print a line."""
        self._shown = time.monotonic()
        drawn = self._done - self._kept
        rate = drawn / max(self._shown - self._started, 1e-9)
        eta = tqdm.format_interval((self._total - self._done) / rate) if drawn else "?"
        kept = f", {self._kept:,} of them kept" if self._kept else ""
        print(
            f"{self._split}: {self._done:,} of {self._total:,} samples{kept}, "
            f"{rate:,.0f} samples/s, ETA {eta}",
            file=self._out,
            flush=True,
        )


if __name__ == "__main__":
    cli.run(main)
