"""Reproduce an experiment of a paper and print its figures beside the paper's.

    python -m sionna_loc.reproduce table2 --budget quick --output runs/table2

`table2` is Table 2 of the VIn-Loc paper: the indoor factory with 18 of 18 TRPs and with
15 of 18, for VIn-Loc with and without TRP positions and for its competitors. `quick`
takes about 20 minutes on two cores, `full` trains every model for hours and with three
seeds.

`table4` is Table 4 of that paper: the two ray-traced scenarios in Paris, in the full
budget also without what Scenario 2 is said to need.

`vinloc_fig7` draws a channel of Scenario 2 over angle and delay; nothing is trained.

`hyploc_fig4`, `_fig5` (Fig. 5 and 6), `_fig7` and `_fig8` are figures of the HypLoc
paper: vehicles on the Madrid grid (`_fig3` is its map), with one constellation of gNBs,
with more and more of them, and with one that the models have never seen, against epochs
and against samples of further training. `hyploc_tracks` goes beyond the paper: the same
models, and those for sets of gNBs, with a single sample and with a window of the track.
They share their runs, and so by default their folder.

`wifi_rtt` needs no paper: localizers on real WiFi ranges and powers in three rooms,
which `--data` holds (doi 10.5281/zenodo.11558792), also with fewer access points, and
in rooms that they were not trained in.

Whatever is finished in the output folder is not run again, and what was interrupted is
continued. The folder gets `results.json`, the table as CSV, a figure, and `runs/` with
a run folder for each line; for the figures of HypLoc the other files bear the figure's
name.
"""

import argparse
import sys
from pathlib import Path

from sionna_loc import cli
from sionna_loc.checks import check, check_known
from sionna_loc.registry import lookup

EXPERIMENTS = {
    "hyploc_fig3": "sionna_loc.experiments.hyploc_map:run_fig3",
    "hyploc_fig4": "sionna_loc.experiments.hyploc:run_fig4",
    "hyploc_fig5": "sionna_loc.experiments.hyploc:run_fig5",
    "hyploc_fig7": "sionna_loc.experiments.hyploc_adaptation:run_fig7",
    "hyploc_fig8": "sionna_loc.experiments.hyploc_adaptation:run_fig8",
    "hyploc_tracks": "sionna_loc.experiments.hyploc_tracks:run",
    "table2": "sionna_loc.experiments.table2:run",
    "table4": "sionna_loc.experiments.table4:run",
    "vinloc_fig7": "sionna_loc.experiments.vinloc_fig7:run",
    "wifi_rtt": "sionna_loc.experiments.wifi_rtt:run",
}
_ON_DATA = ("wifi_rtt",)
_UNTRAINED = ("hyploc_fig3", "vinloc_fig7")
_WITH_COUNTS = "hyploc_fig5"
_BUDGETS = ("quick", "full")


def build_parser() -> cli.Parser:
    """Return the parser."""
    parser = cli.make_parser("reproduce", __doc__)
    parser.add_argument(
        "experiment", metavar="NAME", help=f"one of: {', '.join(sorted(EXPERIMENTS))}"
    )
    parser.add_argument(
        "--budget",
        metavar="NAME",
        default="quick",
        help="quick or full (default: quick)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of results and runs (default: runs/<NAME>-<budget>, "
        "runs/hyploc-<budget> for what is of HypLoc)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of measurements, of wifi_rtt"
    )
    parser.add_argument(
        "--seeds",
        type=cli.whole_numbers,
        metavar="N,N,...",
        help="seeds of each training (default: the budget's). Tables and figures are "
        "of these alone; runs with others stay in the folder, for a call with all",
    )
    parser.add_argument(
        "--counts",
        type=cli.whole_numbers,
        metavar="N,N,...",
        help=f"numbers of constellations, of {_WITH_COUNTS} (default: the budget's)",
    )
    parser.add_argument(
        "--small", action="store_true", help="smoke run: small sets, 20 steps"
    )
    parser.add_argument("--quiet", action="store_true", help="print the table only")
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and run the experiment; return the exit code."""
    arguments = build_parser().parse_args(argv)
    check_known("experiment", arguments.experiment, EXPERIMENTS)
    check_known("budget", arguments.budget, _BUDGETS)
    on_data = arguments.experiment in _ON_DATA
    check(
        (arguments.data is not None) == on_data,
        f"{', '.join(_ON_DATA)} needs --data DIR, nothing else takes it.",
        experiment=arguments.experiment,
        data=arguments.data and str(arguments.data),
    )
    _check_numbers(arguments)
    name = arguments.experiment
    family = "hyploc" if name.startswith("hyploc_") else name.partition("_fig")[0]
    name = "-".join([family, arguments.budget])
    output = arguments.output or Path("runs") / name
    return _reproduce(arguments, output)


def _check_numbers(arguments: argparse.Namespace) -> None:
    """Raise `UserError` for seeds or counts that cannot be, or where there are none."""
    name = arguments.experiment
    for option, least, takes in (
        ("seeds", 0, name not in _UNTRAINED),
        ("counts", 1, name == _WITH_COUNTS),
    ):
        numbers = getattr(arguments, option)
        if numbers is None:
            continue
        check(takes, f"{name} has no --{option}.", **{option: numbers})
        check(
            min(numbers) >= least and len(set(numbers)) == len(numbers),
            f"--{option} must be different whole numbers from {least} on.",
            **{option: numbers},
        )


def _reproduce(arguments: argparse.Namespace, output: Path) -> int:
    """Run the experiment and print its table."""
    with cli.quiet_imports():
        from sionna_loc.training import TrainingDiverged, TrainingInterrupted

        run = lookup("experiment", arguments.experiment, EXPERIMENTS)
    given = {name: getattr(arguments, name) for name in ("data", "seeds", "counts")}
    try:
        table = run(
            arguments.budget,
            output,
            small=arguments.small,
            device=arguments.device,
            quiet=arguments.quiet,
            **{name: value for name, value in given.items() if value is not None},
        )
    except TrainingInterrupted as stop:
        print(f"\n{stop} The same command continues.", flush=True)
        return 128 + stop.signal_number
    except TrainingDiverged as error:
        print(f"python -m sionna_loc.reproduce: {cli.one_line(error)}", file=sys.stderr)
        return 1
    print(f"\n{table}\nSaved in {output}")
    return 0


if __name__ == "__main__":
    cli.run(main)
