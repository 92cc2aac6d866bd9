"""Draw a set of samples once, and store it for training, here or elsewhere.

    python -m sionna_loc.prepare --scenario paris_scn1 --data-dir data
    python -m sionna_loc.train --scenario paris_scn1 --data-dir data

Stopped by Ctrl-C or `kill -9`, the same command goes on: shards that are finished are
kept. The same command and seed give the same files. TensorFlow Datasets reads the set
without this library; `docs/stored_data.md` describes it.
"""

import argparse
import logging
from pathlib import Path

from sionna_loc import cli
from sionna_loc.checks import check_known
from sionna_loc.registry import SCENARIOS

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
        help="folder of the recipes (default: datasets/ of a clone of the repository)",
    )
    parser.add_argument("--quiet", action="store_true", help="print the result only")
    cli.add_device(parser)


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and write the set; return the exit code."""
    arguments = build_parser().parse_args(argv)
    check_known("scenario", arguments.scenario, SCENARIOS)
    with cli.quiet_imports():
        from sionna_loc import preparation
        from sionna_loc.device import use_device

    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns of what we want
    builder_class = preparation.find_builder_class(
        arguments.scenario, arguments.recipes or preparation.RECIPES
    )
    config = preparation.make_config(
        builder_class,
        arguments.config,
        {name: getattr(arguments, name) for name in _SIZES},
        dict(arguments.options),
    )
    preparation.make_data_dir(arguments.data_dir)
    device = use_device(arguments.device).description
    if not arguments.quiet:
        print(device, flush=True)
    folder = preparation.prepare(
        builder_class(data_dir=str(arguments.data_dir), config=config),
        beam_options=arguments.beam_options,
        quiet=arguments.quiet,
    )
    print(f"Saved in {folder}")
    return 0


if __name__ == "__main__":
    cli.run(main)
