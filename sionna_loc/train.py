"""Train a model on channels made while training, evaluate it, save the run.

    python -m sionna_loc.train --scenario paris_scn1 --max-minutes 24

Ctrl-C saves a checkpoint; `--resume` continues a run, also after `kill -9`. A run
limited by --steps or --epochs then comes to the same result as if it had never
stopped; one limited by --max-minutes does not, as its schedule follows the clock.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from sionna_loc import cli
from sionna_loc.checks import check, check_known
from sionna_loc.preset_files import expand_preset
from sionna_loc.recipes import RECIPES, RunConfig
from sionna_loc.registry import FROM_FILES, MODELS, SCENARIOS

# Flag -> (type, metavar, help). Each sets the field of `RunConfig` of that name.
_FIELDS: dict[str, tuple[type, str, str]] = {
    "scenario": (str, "NAME", f"one of: {', '.join(sorted(SCENARIOS))}"),
    "model": (str, "NAME", f"one of: {', '.join(sorted(MODELS))}"),
    "preset": (
        str,
        "NAME",
        "size of the model, or a .json file that a search wrote (default: the model's)",
    ),
    "recipe": (
        str,
        "NAME",
        f"how to train; one of: {', '.join(sorted(RECIPES))} (default: the model's)",
    ),
    "num_trps": (int, "N", "TRPs per sample (default: the scenario's)"),
    "batch_size": (int, "N", "samples per step (default: the recipe's)"),
    "learning_rate": (float, "RATE", "at the schedule's top (default: the recipe's)"),
    "emphasis": (
        float,
        "X",
        "where samples are ever new, train on those with n TRPs in line of sight up to "
        "(1 + n)^X times less often than on those with none (default: the recipe's)",
    ),
    "augment": (
        str,
        "NAME",
        "turn and mirror each training sample, TRPs and UE alike, about the middle of "
        "the region: rotate, by any angle that leaves the UE in the region; "
        "symmetries, those of the region; or tilt, as rotate, and as if on a slope of "
        "up to 5 %%; for models that shall not learn a place (default: as drawn)",
    ),
    "steps": (int, "N", "length of the training in steps (default: the recipe's)"),
    "epochs": (float, "X", "length of the training in epochs of --epoch-size"),
    "max_minutes": (
        float,
        "X",
        "end training, with its learning-rate schedule complete, after X minutes at "
        "the latest; the schedule then follows the clock, so that no two runs have "
        "the same result; set-up and evaluation come on top (default: the recipe's, if "
        "neither steps nor epochs are given)",
    ),
    "epoch_size": (
        int,
        "N",
        "samples that count as an epoch (default: the training set's, or 18000 if the "
        "scenario has ever new ones)",
    ),
    "seed": (int, "N", "of weights, stream and all that is drawn"),
    "num_val": (
        int,
        "N",
        "samples of the frozen validation set (default: 1000; all of madrid's and of "
        "measurements)",
    ),
    "num_test": (
        int,
        "N",
        "samples of the frozen test set (default: 2000; all of madrid's and of "
        "measurements)",
    ),
    "data_dir": (
        str,
        "DIR",
        "take all samples from a set that `prepare` wrote there, sizes of validation "
        "and test set included (default: draw them)",
    ),
    "init_from": (
        str,
        "RUN",
        "begin with the weights of a finished run, given by its folder or model.keras, "
        "here or at another site, for vinloc also of one without use_angles or "
        "refiner_peaks; take another --seed to go on with new samples "
        "(default: random weights)",
    ),
}


def build_parser() -> cli.Parser:
    """Return the parser."""
    parser = cli.make_parser("train", __doc__)
    for name, (kind, metavar, text) in _FIELDS.items():
        default = getattr(RunConfig, name)
        text += f" (default: {default})" if default is not None else ""
        # Suppressed, so that a resumed run knows what was asked for.
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            metavar=metavar,
            help=text,
            default=argparse.SUPPRESS,
        )
    _add_run_arguments(parser)
    cli.add_measurements(parser)
    cli.add_device(parser)
    return parser


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is no plain value of the configuration."""
    parser.add_argument(
        "--small",
        action="store_true",
        default=argparse.SUPPRESS,
        help="smoke run: small drops, batches and sets, 20 steps",
    )
    parser.add_argument(
        "--no-baseline",
        dest="baseline",
        action="store_false",
        default=argparse.SUPPRESS,
        help="leave multilateration out of the report",
    )
    for owner in ("model", "scenario"):
        parser.add_argument(
            f"--{owner}-option",
            dest=f"{owner}_options",
            metavar="KEY=VALUE",
            type=cli.key_value,
            action="append",
            default=argparse.SUPPRESS,
            help=f"further argument of the {owner}, VALUE as JSON; may be repeated",
        )
    parser.add_argument(
        "--num-train",
        dest="scenario_options",
        metavar="N",
        type=_num_train,
        action="append",
        default=argparse.SUPPRESS,
        help="UEs of the training set: of inf_dh, 0 for ever new positions (default: "
        "18000), or of madrid (default: all of its tracks)",
    )
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="folder of the run (default: runs/<scenario>-<model>-<preset>-s<seed>)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in the folder, with its configuration; to the same "
        "result as without a stop, if steps or epochs limit it and not time",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the run in the folder"
    )
    parser.add_argument("--quiet", action="store_true", help="print results only")


def _num_train(text: str) -> tuple[str, int]:
    """Parse the size of the training set: an option of the scenario."""
    try:
        return "num_train", int(text)
    except ValueError as error:
        message = f"expected a whole number, received {text!r}"
        raise argparse.ArgumentTypeError(message) from error


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and train; return the exit code."""
    parser = build_parser()
    parsed = parser.parse_args(argv)
    measured = cli.measured_options(parsed)
    arguments = vars(parsed)
    own = ("run_dir", "resume", "overwrite", "quiet", "device")
    options = {name: arguments.pop(name) for name in own}
    for name in ("measurements", "test_measurements"):
        del arguments[name]
    for name in ("model_options", "scenario_options"):
        if name in arguments:
            arguments[name] = dict(arguments[name])
    if measured:
        arguments = _with_measurements(arguments, measured)
    arguments = expand_preset(arguments)
    config = RunConfig(**arguments)
    check_known("scenario", config.scenario, SCENARIOS | FROM_FILES)
    check_known("model", config.model, MODELS)
    return _train(config, arguments, options, cli.command_of("train", argv))


def _with_measurements(
    arguments: dict[str, Any], measured: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments with measured samples in place of a scenario."""
    check(
        arguments.get("scenario", "measured") == "measured",
        "Either --scenario or --measurements.",
        scenario=arguments.get("scenario"),
    )
    options = {**arguments.get("scenario_options", {}), **measured}
    return {**arguments, "scenario": "measured", "scenario_options": options}


def _train(
    config: RunConfig, given: dict[str, Any], options: dict[str, Any], command: str
) -> int:
    """Train as asked for and print the result."""
    with cli.quiet_imports():
        from sionna_loc import assembly, saving, training

    run_dir = options["run_dir"] or assembly.default_run_dir(config)
    if options["resume"]:
        config = _saved_config(saving.read_run(run_dir), given, run_dir)
    try:
        training.fit(
            config,
            run_dir,
            resume=options["resume"],
            overwrite=options["overwrite"],
            device=options["device"],
            quiet=options["quiet"],
            command=command,
        )
    except training.TrainingInterrupted as stop:
        print(f"\n{stop} Continue: {_resume_command(run_dir)}", flush=True)
        return 128 + stop.signal_number
    except training.TrainingDiverged as error:
        print(f"python -m sionna_loc.train: {cli.one_line(error)}", file=sys.stderr)
        return 1
    print(cli.metrics_text(saving.read_run(run_dir, saving.METRICS)))
    print(f"Saved in {run_dir}")
    return 0


def _saved_config(
    record: dict[str, Any], given: dict[str, Any], run_dir: Path
) -> RunConfig:
    """Return the configuration of a saved run, which nothing given may contradict."""
    saved = record["config"]
    for name, value in given.items():
        check(
            saved.get(name) == value,
            f"The run in {run_dir} has another configuration: its `{name}` is "
            f"{saved.get(name)!r}. Leave the flag out, or choose another --run-dir.",
            **{name: value},
        )
    return RunConfig.from_dict(saved)


def _resume_command(run_dir: Path) -> str:
    """Return the command line that continues a run."""
    folder = shlex.quote(str(run_dir))
    return f"python -m sionna_loc.train --resume --run-dir {folder}"


if __name__ == "__main__":
    cli.run(main)
