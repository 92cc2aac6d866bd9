"""What the command lines share. Imports nothing heavy: `--help` must be quick."""

import argparse
import atexit
import contextlib
import json
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from sionna_loc.checks import UserError, check, check_known
from sionna_loc.registry import SCENARIOS

_METRICS = (
    ("rmse", "root mean square"),
    ("mae", "mean"),
    ("p50", "median"),
    ("p90", "90th percentile"),
    ("p95", "95th percentile"),
    ("rmse_3d", "root mean square in space"),
)
_COVERAGES = (("coverage", "regions"), ("radius_coverage", "circles"))


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line on stderr, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")


def make_parser(module: str, description: str) -> Parser:
    """Return the parser of `python -m sionna_loc.<module>`."""
    return Parser(
        prog=f"python -m sionna_loc.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device",
        metavar="NAME",
        default="auto",
        help="cpu, gpu, or auto: a GPU where there is one (default: auto)",
    )


def add_estimate(parser: argparse.ArgumentParser) -> None:
    """Add `--estimate`."""
    parser.add_argument(
        "--estimate",
        metavar="NAME",
        help="what of its density a model answers with that has a choice: mean, median "
        "or mode (default: the run's)",
    )


def add_scenario(parser: argparse.ArgumentParser) -> None:
    """Add `--scenario` and `--scenario-option`, in place of those of a run."""
    parser.add_argument(
        "--scenario",
        metavar="NAME",
        help=f"one of: {', '.join(sorted(SCENARIOS))} (default: the run's); its ground "
        "plan is moved to where the model looks for UEs",
    )
    parser.add_argument(
        "--scenario-option",
        dest="scenario_options",
        metavar="KEY=VALUE",
        type=key_value,
        action="append",
        default=[],
        help="further argument of the scenario, VALUE as JSON; may be repeated "
        "(default: the run's, if the scenario is)",
    )


def check_scenario(arguments: argparse.Namespace) -> None:
    """Raise `UserError` for a scenario that is unknown, or beside measurements."""
    if arguments.scenario is not None:
        check_known("scenario", arguments.scenario, SCENARIOS)
        check(
            not measured_options(arguments),
            "Either --scenario or --measurements.",
            scenario=arguments.scenario,
        )


def add_measurements(parser: argparse.ArgumentParser) -> None:
    """Add `--measurements` and `--test-measurements`."""
    for name, text in (
        (
            "measurements",
            "measured samples in place of a scenario, .npz, .h5 or .hdf5, see "
            "docs/data_format.md; the files say which are for training, validation "
            "and test, or they are drawn, all samples of one place together",
        ),
        ("test-measurements", "further files, all of whose samples are for testing"),
    ):
        parser.add_argument(
            f"--{name}", metavar="FILE", nargs="+", default=[], help=text
        )


def measured_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `scenarios.measured.Measured`; none without files."""
    options = {
        "files": arguments.measurements,
        "test_files": arguments.test_measurements,
    }
    # Absolute, so that the run can be evaluated from anywhere.
    return {
        name: [os.path.abspath(path) for path in paths]
        for name, paths in options.items()
        if any(options.values())
    }


def command_of(module: str, argv: list[str] | None) -> str:
    """Return the command line that runs a module, as a shell takes it.

    Args:
        module: name below `sionna_loc`.
        argv: arguments; those of the process if there are none.
    """
    return f"python -m sionna_loc.{module} {shlex.join(argv or sys.argv[1:])}"


def one_line(text: object) -> str:
    """Return the text without line breaks."""
    return " ".join(str(text).split())


def whole_numbers(text: str) -> list[int]:
    """Parse `N,N,...`."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        message = f"expected whole numbers N,N,..., received {text!r}"
        raise argparse.ArgumentTypeError(message) from error


def key_value(text: str) -> tuple[str, Any]:
    """Parse `KEY=VALUE`; the value is JSON, or else text."""
    name, found, value = text.partition("=")
    if not (name and found):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, received {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def run(main: Callable[[], int], program: str | None = None) -> NoReturn:
    """Run a command line and end the process.

    What the user can mend, a mistake, a missing package, a file that cannot be read or
    written, is one line on stderr and exit code 2.

    Args:
        main: the command line; returns the exit code.
        program: its name in messages, by default that of a module of the package.
    """
    program = program or f"python -m sionna_loc.{Path(sys.argv[0]).stem}"
    try:
        code = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"{program}: error: {one_line(error)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (ImportError, OSError) as error:  # a missing package, a full disk, ...
        text = one_line(error) or type(error).__name__
        print(f"{program}: error: {text}", file=sys.stderr)
        code = 2
    except SystemExit as leaving:  # argparse
        code = leaving.code
    except BaseException:
        traceback.print_exc()
        code = 1
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process with its exit functions, but without Python's last clean-up.

    The clean-up deletes what is left of data pipelines, whose threads may just be in
    Python: they wait for the interpreter, it waits for them, and nothing ends.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Keep TensorFlow's start-up messages off stderr, unless the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except (ImportError, OSError, UserError):  # say by themselves what is wrong
            raise
        except BaseException:
            buffer.seek(0)
            os.write(kept, buffer.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def metrics_text(metrics: dict[str, Any]) -> str:
    """Return the metrics of a run as a table, beside those of its baselines."""
    baselines = metrics.get("baselines", {})
    lines = [f"Position error on {metrics['num_samples']:,} test samples [m]"]
    if baselines:
        lines.append(f"  {'':42}" + "".join(f"{name:>17}" for name in baselines))
    for name, meaning in _METRICS:
        lower, upper = metrics["intervals"][name]
        interval = f"95 %: {lower:.2f} to {upper:.2f}"
        others = "".join(f"{values[name]:17.2f}" for values in baselines.values())
        line = f"  {name:8}{metrics[name]:8.2f}   {interval:23}{others}   {meaning}"
        lines.append(line)
    for name, what in _COVERAGES:
        if f"{name}_50" in metrics:
            shares = (f"{100 * metrics[f'{name}_{p}']:.1f}" for p in (50, 90, 95))
            lines.append(
                f"True positions in the 50, 90, 95 % {what}: {', '.join(shares)} %"
            )
    if "expected_error" in metrics:
        lines.append(f"Error expected by the model: {metrics['expected_error']:.2f} m")
    return "\n".join(lines)
