r"""How does the error go down while models train? A figure of several runs.

    python benchmarks/training_curves.py runs/first runs/second --output curves \
        --labels "VIn-Loc" "back-projection"

Draws RMSE, mean and median of the horizontal error on the validation set, as
`history.csv` of each run holds them, against samples seen and against time, and writes
`curves.png` and `curves.pdf`. Runs that are still training will do. Times compare only
where the runs had the same machine, to the same extent, for themselves.
"""

import argparse
from pathlib import Path

from sionna_loc import cli
from sionna_loc.checks import check


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="without suffix"
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="TEXT", help="(default: the folders' names)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and draw; return the exit code."""
    arguments = build_parser().parse_args(argv)
    labels = arguments.labels or [run.resolve().name for run in arguments.runs]
    check(
        len(labels) == len(arguments.runs) == len(set(labels)),
        f"There must be {len(arguments.runs)} different labels, one for each run.",
        labels=labels,
    )
    with cli.quiet_imports():
        from sionna_loc.experiments.figures import training_comparison
        from sionna_loc.plotting import FORMATS, save_figure
        from sionna_loc.saving import read_history

    histories = map(read_history, arguments.runs)
    figure = training_comparison(dict(zip(labels, histories, strict=True)))
    output = arguments.output
    if output.suffix.removeprefix(".") in FORMATS:
        output = output.with_suffix("")
    for path in save_figure(figure, output):
        print(path)
    return 0


if __name__ == "__main__":
    cli.run(main, "python benchmarks/training_curves.py")
