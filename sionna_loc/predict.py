"""Locate the samples of a file with the model of a run.

    python -m sionna_loc.predict --run DIR --input samples.npz --output positions.npz

The input holds measured CIRs, or link measurements if the model takes those, and the
positions of the TRPs; the output holds `position` [num_samples, 3] in metres. If the
model knows how sure it is, it holds besides `covariance` [num_samples, 3, 3] in square
metres, `expected_error` [num_samples], the distance in metres that it expects between
estimate and true position, and `credible_radius` [num_samples, 3] of the circles around
the estimate that have 50, 90 and 95 % of the probability; with --maps also the density
itself. `docs/data_format.md` describes all of it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sionna_loc import cli
from sionna_loc.checks import check

_SEED = 0  # of the draws from densities


def build_parser() -> cli.Parser:
    """Return the parser."""
    parser = cli.make_parser("predict", __doc__)
    for name, metavar, text in (
        ("run", "DIR", "folder of the run"),
        ("input", "FILE", "samples, .npz, .h5 or .hdf5"),
        ("output", "FILE", "positions, .npz, .h5 or .hdf5; replaced if it exists"),
    ):
        parser.add_argument(
            f"--{name}", type=Path, metavar=metavar, required=True, help=text
        )
    parser.add_argument(
        "--maps",
        action="store_true",
        help="write the densities, too, of a model that gives one of many Gaussians "
        "(some 35 kB a sample)",
    )
    cli.add_estimate(parser)
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and locate; return the exit code."""
    arguments = build_parser().parse_args(argv)
    with cli.quiet_imports():
        from sionna_loc import assembly, saving
        from sionna_loc.data.array_files import check_output_path, write_positions
        from sionna_loc.data.measured import read_samples
        from sionna_loc.data.measured_form import CIRS, LINKS
        from sionna_loc.device import use_device
        from sionna_loc.features.cir_form import CirForm

    record = saving.read_run(arguments.run)
    check_output_path(arguments.output)
    check(
        arguments.output.resolve() != arguments.input.resolve(),
        "The output would replace the input.",
        output=str(arguments.output),
    )
    form = assembly.trained_form(record, arguments.run)
    kind = CIRS if isinstance(form, CirForm) else LINKS
    window = record["features"].get("window", 1)
    samples = read_samples(arguments.input, kind, form, window=window)
    print(use_device(arguments.device).description)
    model = saving.load_model(arguments.run)
    if arguments.estimate is not None:
        model.answer_with(arguments.estimate)
    found = _locate(model, samples, arguments.maps)
    write_positions(arguments.output, **found)
    print(f"{len(found['position'])} positions saved in {arguments.output}")
    return 0


def _locate(model: Any, samples: Iterable[dict[str, Any]], maps: bool) -> dict:
    """Return what a model says of all samples, name -> array.

    Args:
        model: localizer.
        samples: batches of its inputs.
        maps: whether densities are wanted, too.

    Raises: UserError if there are none.
    """
    import numpy as np

    from sionna_loc.calibration import promise

    wanted = {"position", "covariance"} | ({"map"} if maps else set())
    generator = np.random.default_rng(_SEED)
    parts: dict[str, list] = {}
    for inputs in samples:
        outputs = model.predict_on_batch(inputs)
        check(
            "map" in outputs or not maps,
            "--maps is for models that give a density of many Gaussians.",
            model=type(model).__name__,
        )
        columns = {name: outputs[name] for name in outputs.keys() & wanted}
        if (promised := promise(outputs, generator)) is not None:
            columns |= promised._asdict()
        for name, values in columns.items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


if __name__ == "__main__":
    cli.run(main)
