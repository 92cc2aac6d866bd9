"""Adapt the model of a run to another place, or other TRPs, with few samples.

    python -m sionna_loc.adapt --run DIR --constellation 16 --num-samples 227
    python -m sionna_loc.adapt --run DIR --measurements site.npz --num-samples 100
    python -m sionna_loc.adapt --run DIR --unlabelled samples.npz

The model goes on training on so many samples of the scenario's training set, or of
that of measurements from the real site, and its error on the test set is measured
before, and after each epoch. Models that know the walls of a place look for them in
these samples.

With --self-training, and with --unlabelled samples, nobody has to know where they were
taken: the model locates them itself, learns from the fixes that it is sure of, with
TRPs taken away, and does so again. It must give a density (`backprojection`, and
`vinloc` with `gaussian_head`).

The output folder, by default one in the run's, can be used as the run's own (`predict`,
`evaluate`). It gets the adapted `model.keras`, the learning curve as `adaptation.csv`
and, as a figure, `adaptation.png` and `.pdf`, and `adaptation.json`.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sionna_loc import cli
from sionna_loc.checks import (
    check,
    check_known,
    check_positive,
    check_positive_int,
    check_seed,
    check_writable,
    make_writable,
)
from sionna_loc.recipes import RECIPES, SelfTraining

_FILE = "adaptation"
_EPOCHS = 30
_PLAN = SelfTraining()


def build_parser() -> cli.Parser:
    """Return the parser."""
    parser = cli.make_parser("adapt", __doc__)
    parser.add_argument(
        "--run", type=Path, metavar="DIR", required=True, help="folder of the run"
    )
    cli.add_scenario(parser)
    parser.add_argument(
        "--constellation",
        dest="constellations",
        type=int,
        metavar="N",
        help="of madrid: short for --scenario-option constellations=N",
    )
    for name, kind, text in (
        ("num-samples", int, "samples to learn from (with --unlabelled: all)"),
        ("num-test", int, "samples of the test set (default: the scenario's)"),
        ("num-trps", int, "TRPs of a sample (default: the scenario's, or the run's)"),
        (
            "epochs",
            int,
            f"passes over the samples (default: {_EPOCHS}; with self-training "
            f"{_PLAN.epochs} in each round)",
        ),
        ("learning-rate", float, "at the schedule's top (default: the run's)"),
        ("seed", int, "of the order of the samples (default: 0)"),
    ):
        parser.add_argument(
            f"--{name}",
            type=kind,
            metavar="X" if kind is float else "N",
            default=0 if name == "seed" else None,
            help=text,
        )
    parser.add_argument(
        "--drop-trps",
        action="store_true",
        help="take TRPs away from the samples, other ones in each pass, so that they "
        "teach more; self-training always does",
    )
    parser.add_argument(
        "--self-training",
        action="store_true",
        help="learn from what the model itself says of the samples, not from their "
        "positions",
    )
    parser.add_argument(
        "--unlabelled",
        type=Path,
        metavar="FILE",
        nargs="+",
        default=[],
        help="samples for self-training, .npz, .h5 or .hdf5, whose positions nobody "
        "has to know; the error is measured where --scenario or --measurements says",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"of self-training (default: {_PLAN.rounds})",
    )
    parser.add_argument(
        "--max-expected-error",
        type=float,
        metavar="X",
        help="in metres, of a fix that self-training learns from (default: "
        f"{_PLAN.max_expected_error:g})",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"how to train; one of: {', '.join(sorted(RECIPES))} (default: the run's)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the results (default: RUN/adaptation-<num-samples>, or "
        "RUN/self-training-<num-samples>)",
    )
    cli.add_measurements(parser)
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, adapt and save; return the exit code."""
    arguments = build_parser().parse_args(argv)
    _check(arguments)
    with cli.quiet_imports():
        from sionna_loc import assembly, saving
        from sionna_loc.device import use_device

    record = saving.read_run(arguments.run)
    _check_output(arguments)
    print(use_device(arguments.device).description)
    config, shots, model = _setting(arguments, record)
    recipe = assembly.make_recipe(config, shots and shots.scenario)
    if _is_self_training(arguments):
        learned = _learn_from_fixes(arguments, model, shots, recipe, record)
    else:
        learned = _learn_from_positions(arguments, model, shots, recipe)
    output = arguments.output or arguments.run / learned.folder
    output.mkdir(parents=True, exist_ok=True)
    saving.save_model(model, output / saving.MODEL)
    history = {
        "command": cli.command_of("adapt", argv),
        "adapted_from": record.get("command"),
    }
    saving.write_json(output / saving.CONFIG, {**record, **history})
    _save_curve(learned, config, output)
    print(f"Saved in {output}")
    return 0


def _setting(
    arguments: argparse.Namespace, record: dict[str, Any]
) -> tuple[Any, Any | None, Any]:
    """Return configuration, `Shots` and model of a run.

    There are no `Shots` where unlabelled files are all there is.
    """
    from sionna_loc import assembly, saving, transfer
    from sionna_loc.adaptation import Shots

    own = config = assembly.resolved_config(record)
    measured = cli.measured_options(arguments)
    if measured:
        config = assembly.with_measurements(config, measured)
    config = _config(config, arguments)
    if arguments.unlabelled and not measured and not _names_scenario(arguments):
        return config, None, saving.load_model(arguments.run)
    scenario = assembly.make_scenario(config)
    assembly.check_measurements(record, scenario, arguments.run)
    model = saving.load_model(arguments.run)
    if not measured and _names_scenario(arguments):
        scenario = transfer.in_frame_of(model, record, scenario, arguments.run)
    if measured or config.scenario != own.scenario:
        config = transfer.sized(config, scenario, model)
    shots = Shots(
        scenario,
        arguments.num_samples or 1,
        arguments.num_trps or config.num_trps,
        arguments.num_test or config.num_test,
    )
    return config, shots, model


def _save_curve(learned: "_Learned", config: Any, output: Path) -> None:
    """Write the learning curve, and print its ends."""
    from sionna_loc import saving
    from sionna_loc.evaluation import metrics_table
    from sionna_loc.plotting import learning_curves, save_figure

    points, unit = learned.points, learned.unit
    curve = {"config": config.to_dict(), "points": points}
    saving.write_json(output / f"{_FILE}.json", curve)
    rows = [{k: v for k, v in p.items() if k != "intervals"} for p in points]
    saving.write_history(output / f"{_FILE}.csv", rows)
    for suffix in (".png", ".pdf"):  # of results that were here before
        (output / f"{_FILE}{suffix}").unlink(missing_ok=True)
    first, last = points[0], points[-1]
    if "mae" in last:
        curves = {"": [(point[unit], point["mae"]) for point in points]}
        save_figure(learning_curves(curves, f"{unit.capitalize()}s"), output / _FILE)
        lines = {"before": first, f"after {last[unit]}": last}
        print(metrics_table(lines, heading=f"{unit}s", intervals=True))


class _Learned(NamedTuple):
    """What adaptation gave.

    Attributes:
        points: of the learning curve.
        unit: what the points count: `"epoch"` or `"round"`.
        folder: name of the folder for the results, where none is given.
    """

    points: list[dict[str, Any]]
    unit: str
    folder: str


def _learn_from_positions(
    arguments: argparse.Namespace, model: Any, shots: Any, recipe: Any
) -> _Learned:
    """Let the model learn from samples whose positions are known."""
    from sionna_loc.adaptation import adapt

    points = adapt(
        model,
        shots,
        recipe,
        epochs=arguments.epochs or _EPOCHS,
        drop_trps=arguments.drop_trps,
        seed=arguments.seed,
        report=lambda point: print(
            f"epoch {point['epoch']:3}: mean error {point['mae']:.2f} m", flush=True
        ),
    )
    return _Learned(points, "epoch", f"adaptation-{arguments.num_samples}")


def _learn_from_fixes(
    arguments: argparse.Namespace,
    model: Any,
    shots: Any | None,
    recipe: Any,
    record: dict[str, Any],
) -> _Learned:
    """Let the model learn from its own fixes; of `shots`, if any, is its error."""
    from sionna_loc.assembly import make_features
    from sionna_loc.evaluation import BATCH_SIZE
    from sionna_loc.self_training import self_train

    test: list[Any] = []
    if shots is not None:
        features = make_features(shots.scenario, model)
        test.extend(shots.read("test", features, BATCH_SIZE))
    if arguments.unlabelled:
        samples = _read_unlabelled(arguments, record)
    else:
        train = shots.read("train", features, BATCH_SIZE)
        samples = (inputs for inputs, _ in train)
    points = self_train(
        model,
        samples,
        recipe,
        SelfTraining(
            arguments.rounds or _PLAN.rounds,
            arguments.epochs or _PLAN.epochs,
            arguments.max_expected_error or _PLAN.max_expected_error,
        ),
        is_one_place=bool(arguments.unlabelled) or shots.scenario.is_one_place,
        test=test,
        seed=arguments.seed,
        report=lambda point: print(_text(point), flush=True),
    )
    return _Learned(points, "round", f"self-training-{points[0]['samples']}")


def _read_unlabelled(
    arguments: argparse.Namespace, record: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield batches of inputs, the first `num_samples` of the files."""
    from sionna_loc.assembly import trained_form
    from sionna_loc.data.measured import read_samples

    form = trained_form(record, arguments.run)
    left = arguments.num_samples
    for path in arguments.unlabelled:
        for inputs in read_samples(path, form=form):
            if left is not None:
                inputs = {name: values[:left] for name, values in inputs.items()}
                left -= int(inputs["cir"].shape[0])
            yield inputs
            if left == 0:
                return


def _text(point: dict[str, Any]) -> str:
    """Return a point of self-training for people."""
    text = (
        f"round {point['round']:2}: sure of {point['sure']:,} of {point['samples']:,} "
        f"samples, expected mean error {point['expected_mae']:.2f} m"
    )
    return text + (f", mean error {point['mae']:.2f} m" if "mae" in point else "")


def _is_self_training(arguments: argparse.Namespace) -> bool:
    """Return whether the model is to learn from its own fixes."""
    return arguments.self_training or bool(arguments.unlabelled)


def _names_scenario(arguments: argparse.Namespace) -> bool:
    """Return whether the arguments say in which scenario."""
    return bool(arguments.scenario or arguments.scenario_options)


def _check(arguments: argparse.Namespace) -> None:
    """Raise `UserError` for what cannot be, before anything heavy is imported."""
    check(
        arguments.num_samples is not None or arguments.unlabelled,
        "The number of samples to learn from is missing: --num-samples N.",
        num_samples=None,
    )
    for name in ("num_samples", "epochs", "num_test", "num_trps", "rounds"):
        if getattr(arguments, name) is not None:
            check_positive_int(name, getattr(arguments, name))
    check_seed(arguments.seed)
    for name in ("learning_rate", "max_expected_error"):
        if getattr(arguments, name) is not None:
            check_positive(name, getattr(arguments, name))
    if not _is_self_training(arguments):
        for name in ("rounds", "max_expected_error"):
            check(
                getattr(arguments, name) is None,
                f"--{name.replace('_', '-')} is for --self-training.",
                **{name: getattr(arguments, name)},
            )
    cli.check_scenario(arguments)
    check(
        arguments.constellations is None or not cli.measured_options(arguments),
        "Either --constellation or --measurements.",
        constellation=arguments.constellations,
    )
    if arguments.recipe is not None:
        check_known("recipe", arguments.recipe, RECIPES)


def _check_output(arguments: argparse.Namespace) -> None:
    """Raise `UserError` if the results have no place, or would replace a run."""
    from sionna_loc import saving

    run, output = arguments.run, arguments.output
    if output is None:
        check_writable("The results", run)
        return
    is_run = output.resolve() == run.resolve() or (output / saving.METRICS).exists()
    if not is_run and (output / saving.CONFIG).exists():
        is_run = "adapted_from" not in saving.read_run(output)
    check(not is_run, "The results would replace a run.", output=str(output))
    make_writable("The results", output)


def _config(config: Any, arguments: argparse.Namespace) -> Any:
    """Return the run's configuration with what the arguments replace."""
    from sionna_loc.transfer import with_scenario

    options = dict(arguments.scenario_options)
    if arguments.constellations is not None:
        options["constellations"] = arguments.constellations
    changes: dict[str, Any] = {}
    for name in ("recipe", "learning_rate"):
        if getattr(arguments, name) is not None:
            changes[name] = getattr(arguments, name)
    if arguments.recipe is not None and arguments.learning_rate is None:
        changes["learning_rate"] = RECIPES[arguments.recipe].learning_rate
    config = with_scenario(config, arguments.scenario, options)
    return dataclasses.replace(config, **changes)


if __name__ == "__main__":
    cli.run(main)
