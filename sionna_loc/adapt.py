"""Adapt the model of a run to another place, or other TRPs, with few samples.

    python -m sionna_loc.adapt --run DIR --constellation 16 --num-samples 227
    python -m sionna_loc.adapt --run DIR --measurements site.npz --num-samples 100

The model goes on training on so many samples of the scenario's training set, or of
that of measurements from the real site, and its error on the test set is measured
before, and after each epoch. Models that know the walls of a place look for them in
these samples. The output folder, by default one in the run's, gets the adapted
`model.keras`, the learning curve as `adaptation.csv` and, as a figure, `adaptation.png`
and `.pdf`, and `adaptation.json`.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from sionna_loc import cli
from sionna_loc.checks import check, check_known, check_positive, check_positive_int
from sionna_loc.recipes import RECIPES

_FILE = "adaptation"


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
        ("num-samples", int, "samples to learn from"),
        ("num-test", int, "samples of the test set (default: the run's)"),
        ("epochs", int, "passes over the samples (default: 30)"),
        ("learning-rate", float, "at the schedule's top (default: the run's)"),
        ("seed", int, "of the order of the samples (default: 0)"),
    ):
        defaults = {"epochs": 30, "seed": 0}
        parser.add_argument(
            f"--{name}",
            type=kind,
            metavar="X" if kind is float else "N",
            required=name == "num-samples",
            default=defaults.get(name),
            help=text,
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
        help="folder of the results (default: RUN/adaptation-<num-samples>)",
    )
    cli.add_measurements(parser)
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, adapt and save; return the exit code."""
    arguments = build_parser().parse_args(argv)
    _check(arguments)
    with cli.quiet_imports():
        from sionna_loc import assembly, saving, transfer
        from sionna_loc.adaptation import Shots, adapt
        from sionna_loc.device import use_device
        from sionna_loc.evaluation import metrics_table
        from sionna_loc.plotting import learning_curves, save_figure

    record = saving.read_run(arguments.run)
    print(use_device(arguments.device).description)
    config = assembly.resolved_config(record)
    if measured := cli.measured_options(arguments):
        config = assembly.with_measurements(config, measured)
    config = _config(config, arguments)
    scenario = assembly.make_scenario(config)
    assembly.check_measurements(record, scenario, arguments.run)
    model = saving.load_model(arguments.run)
    if not measured and (arguments.scenario or arguments.scenario_options):
        scenario = transfer.in_frame_of(model, record, scenario, arguments.run)
    output = arguments.output or arguments.run / f"{_FILE}-{arguments.num_samples}"
    output.mkdir(parents=True, exist_ok=True)
    num_test = arguments.num_test or getattr(scenario, "num_test", config.num_test)
    num_trps = config.num_trps
    if measured:
        num_trps = model.fixed_num_trps or scenario.num_trps
    shots = Shots(scenario, arguments.num_samples, num_trps, num_test)
    recipe = assembly.make_recipe(config, scenario)
    points = adapt(
        model,
        shots,
        recipe,
        epochs=arguments.epochs,
        seed=arguments.seed,
        report=lambda point: print(
            f"epoch {point['epoch']:3}: mean error {point['mae']:.2f} m", flush=True
        ),
    )
    saving.save_model(model, output / saving.MODEL)
    saving.write_json(
        output / f"{_FILE}.json", {"config": config.to_dict(), "points": points}
    )
    saving.write_history(
        output / f"{_FILE}.csv",
        [{k: v for k, v in point.items() if k != "intervals"} for point in points],
    )
    curves = {"": [(point["epoch"], point["mae"]) for point in points]}
    save_figure(learning_curves(curves, "Epochs"), output / _FILE)
    lines = {"before": points[0], f"after {points[-1]['epoch']}": points[-1]}
    print(metrics_table(lines, heading="epochs", intervals=True))
    print(f"Saved in {output}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise `UserError` for what cannot be, before anything heavy is imported."""
    for name in ("num_samples", "epochs", "num_test"):
        if getattr(arguments, name) is not None:
            check_positive_int(name, getattr(arguments, name))
    if arguments.learning_rate is not None:
        check_positive("learning_rate", arguments.learning_rate)
    cli.check_scenario(arguments)
    check(
        arguments.constellations is None or not cli.measured_options(arguments),
        "Either --constellation or --measurements.",
        constellation=arguments.constellations,
    )
    if arguments.recipe is not None:
        check_known("recipe", arguments.recipe, RECIPES)


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
