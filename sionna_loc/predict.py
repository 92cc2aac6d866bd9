"""Locate the samples of a file with the model of a run.

    python -m sionna_loc.predict --run DIR --input samples.npz --output positions.npz

The input holds measured CIRs, or link measurements if the model takes those, and the
positions of the TRPs; the output holds `position` [num_samples, 3] in metres, and
`covariance` [num_samples, 3, 3] in square metres if the model gives one.
`docs/data_format.md` describes both.
"""

from pathlib import Path

from sionna_loc import cli
from sionna_loc.checks import check


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
    cli.add_estimate(parser)
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and locate; return the exit code."""
    arguments = build_parser().parse_args(argv)
    with cli.quiet_imports():
        import numpy as np

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
    parts: dict[str, list] = {}
    for inputs in samples:
        outputs = model.predict_on_batch(inputs)
        for name in outputs.keys() & {"position", "covariance"}:
            parts.setdefault(name, []).append(outputs[name])
    found = {name: np.concatenate(values) for name, values in parts.items()}
    write_positions(arguments.output, **found)
    print(f"{len(found['position'])} positions saved in {arguments.output}")
    return 0


if __name__ == "__main__":
    cli.run(main)
