"""Combine the models of several runs: multiply the densities that they give.

    python -m sionna_loc.train --model backprojection --run-dir runs/map
    python -m sionna_loc.train --model-option gaussian_head=true --run-dir runs/vinloc
    python -m sionna_loc.combine --runs runs/map runs/vinloc --run-dir runs/both

Models of different kinds err in different places, and one often knows which of two
modes of the other is right. They stay as they are; how far to trust each is learned, in
a minute, from the first run's validation set. The new run holds all models, so that the
others' folders may go, is evaluated on the first one's frozen test set, and is used as
any other: `evaluate`, `predict`. The models must give a density (`backprojection`, and
`vinloc` with `gaussian_head`) and be of the same scenario, region and CIRs. Of several
`backprojection` runs name the best first: of its map only the temperature is learned.
"""

import argparse
from pathlib import Path
from typing import Any

from sionna_loc import cli
from sionna_loc.checks import check
from sionna_loc.recipes import RunConfig

_MODEL = "product_of_experts"
_KEPT = (
    *("scenario", "scenario_options", "data_dir", "small"),
    *("num_trps", "num_val", "num_test", "seed"),
)
"""Of the configuration of the first run."""


def build_parser() -> cli.Parser:
    """Return the parser."""
    parser = cli.make_parser("combine", __doc__)
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        nargs="+",
        required=True,
        help="folders of two or more finished runs",
    )
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", required=True, help="folder of the run"
    )
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="evaluate multilateration, too, for the report",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the run in the folder"
    )
    parser.add_argument("--quiet", action="store_true", help="print results only")
    cli.add_estimate(parser)
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, combine and evaluate; return the exit code."""
    arguments = build_parser().parse_args(argv)
    with cli.quiet_imports():
        from sionna_loc import saving, training

    runs = arguments.runs
    check(
        len({run.resolve() for run in runs}) == len(runs) > 1,
        "`--runs` must be two or more different folders.",
        runs=[str(run) for run in runs],
    )
    check(
        arguments.run_dir.resolve() not in {run.resolve() for run in runs},
        "The combination would replace one of the runs.",
        run_dir=str(arguments.run_dir),
    )
    records = [saving.read_run(run) for run in runs]
    config = _configuration(arguments, records)
    for run, record in zip(runs, records, strict=True):
        if "adapted_from" in record:
            print(
                f"{run} holds an adapted model; how far to trust it is learned where "
                f"it was trained before, in {config.scenario}."
            )
    training.fit(
        config,
        arguments.run_dir,
        overwrite=arguments.overwrite,
        device=arguments.device,
        quiet=arguments.quiet,
        command=cli.command_of("combine", argv),
    )
    print(cli.metrics_text(saving.read_run(arguments.run_dir, saving.METRICS)))
    print(f"Saved in {arguments.run_dir}")
    return 0


def _configuration(
    arguments: argparse.Namespace, records: list[dict[str, Any]]
) -> RunConfig:
    """Return the configuration of the combination, the first run's where it can be.

    Raises: UserError if the samples of the runs are not alike.
    """
    from sionna_loc import assembly

    configs = [assembly.resolved_config(record) for record in records]
    forms = [
        assembly.trained_form(record, run)
        for record, run in zip(records, arguments.runs, strict=True)
    ]
    for run, config, form in zip(arguments.runs, configs, forms, strict=True):
        check(
            config.scenario == configs[0].scenario and form == forms[0],
            f"Samples must be alike; in {arguments.runs[0]} they are of "
            f"{configs[0].scenario}, {forms[0]}.",
            run=str(run),
            scenario=config.scenario,
            form=str(form),
        )
    # Absolute, so that the configuration means the same from anywhere.
    experts = [str(run.resolve()) for run in arguments.runs]
    options: dict[str, Any] = {"experts": experts}
    if arguments.estimate is not None:
        options["estimate"] = arguments.estimate
    kept = {name: getattr(configs[0], name) for name in _KEPT}
    return RunConfig(
        model=_MODEL, model_options=options, baseline=arguments.baseline, **kept
    )


if __name__ == "__main__":
    cli.run(main)
