"""Locate the samples of a file with the model of a run.

    python -m sionna_loc.predict --run DIR --input samples.npz --output positions.npz

The input holds measured CIRs and the positions of their TRPs; the output holds
`position` [num_samples, 3] in metres, and `covariance` [num_samples, 3, 3] in square
metres if the model gives one. `docs/data_format.md` describes both.
"""

from pathlib import Path

from sionna_loc import cli
from sionna_loc.checks import UserError, check


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
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and locate; return the exit code."""
    arguments = build_parser().parse_args(argv)
    with cli.quiet_imports():
        import numpy as np

        from sionna_loc import saving
        from sionna_loc.data.measured import (
            check_output_path,
            read_samples,
            write_positions,
        )
        from sionna_loc.device import use_device
        from sionna_loc.features.cir_tokens import CirTokens

    record = saving.read_run(arguments.run)
    check_output_path(arguments.output)
    check(
        arguments.output.resolve() != arguments.input.resolve(),
        "The output would replace the input.",
        output=str(arguments.output),
    )
    check(
        "num_taps" in record["features"],
        "The model of the run takes link measurements, of which there are no files.",
        run=str(arguments.run),
    )
    try:
        features = CirTokens.from_config(record["features"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            "The run is of another version of the library: its `features` are not "
            f"known here. Received: run={str(arguments.run)!r}."
        ) from error
    samples = read_samples(
        arguments.input, features.num_ant, features.num_taps, features.sampling_rate
    )
    print(use_device(arguments.device).description)
    model = saving.load_model(arguments.run)
    names = ("position", "covariance")
    outputs = [model.predict_on_batch(inputs) for inputs in samples]
    found = {
        name: np.concatenate([output[name] for output in outputs])
        for name in names
        if name in outputs[0]
    }
    write_positions(arguments.output, **found)
    print(f"{len(found['position'])} positions saved in {arguments.output}")
    return 0


if __name__ == "__main__":
    cli.run(main)
