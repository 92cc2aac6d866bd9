"""Evaluate the model of a run on the frozen test set, by numbers of TRPs.

    python -m sionna_loc.evaluate --run runs/paris_scn1-vinloc-compact-s0
    python -m sionna_loc.evaluate --run DIR --scenario paris_scn1
    python -m sionna_loc.evaluate --run DIR --test-measurements site.npz

Prints the metrics, how they depend on how many of its TRPs a UE hears and has in line
of sight, and a table over the number of TRPs per sample, and writes all of it to
`evaluation.json` in the run's folder, or, with measurements,
`evaluation-measured.json`, with another scenario, or other options of the run's, or
another estimate, a file in `evaluations/`; the run's `metrics.json` stays as it is.

A model can be evaluated in another scenario than its own if samples are of the same
form and the UEs fit into the ground plan in which it looks for them. TRPs and UEs are
moved there, so that the middles of both plans agree; heights stay. Errors are the same
in any frame; where a scenario has noise or survey errors of TRPs, which belong to
places, the moved samples have others of the same kind. The run's multilateration is
left out: it was calibrated on where UEs are in the run's own scenario.

`squared_share` is what part of the sum of all squared errors a line's samples have.
`bound_rms` and `bound_p50` are root mean square and median of the position error bound,
the Cramer-Rao bound of who knows nothing but the delays of the lines of sight, infinite
with fewer than two. Who knows the place can be better. Measured samples do not say what
is in line of sight, and without a common time base there is no bound.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from sionna_loc import cli
from sionna_loc.checks import (
    UserError,
    check_number,
    check_positive,
    check_positive_int,
)
from sionna_loc.recipes import RunConfig

_LONGEST_NAME = 100
"""Of a file of results, which file systems limit to 255 bytes [characters]."""


def build_parser() -> cli.Parser:
    """Return the parser."""
    parser = cli.make_parser("evaluate", __doc__)
    parser.add_argument(
        "--run", type=Path, metavar="DIR", required=True, help="folder of the run"
    )
    parser.add_argument(
        "--num-trps",
        type=cli.whole_numbers,
        metavar="N,N,...",
        help="TRPs per sample (default: a quarter, half, once, twice and four times "
        "as many as in the training, or, with another scenario or measurements, as are "
        "usual there)",
    )
    parser.add_argument(
        "--num-samples",
        type=int,
        metavar="N",
        help="samples of the frozen test set (default: the run's --num-test, or, with "
        "another scenario or measurements, as many as are usual there)",
    )
    cli.add_scenario(parser)
    ranges = parser.add_mutually_exclusive_group()
    ranges.add_argument(
        "--snr-db",
        type=float,
        default=20.0,
        metavar="DB",
        help="of the direct path at its peak in the CIR; with the bandwidth it tells "
        "how well a range can be known, for the bound (default: %(default)g)",
    )
    ranges.add_argument(
        "--range-deviation",
        type=float,
        metavar="M",
        help="standard deviation of ranges, for the bound, in place of --snr-db",
    )
    cli.add_measurements(parser)
    cli.add_estimate(parser)
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and evaluate; return the exit code."""
    arguments = build_parser().parse_args(argv)
    _check_numbers(arguments)
    with cli.quiet_imports():
        from sionna_loc import assembly, saving
        from sionna_loc.device import use_device
        from sionna_loc.evaluation import evaluate_over_num_trps, metrics_table

    record = saving.read_run(arguments.run)
    print(use_device(arguments.device).description)
    model = saving.load_model(arguments.run)
    if arguments.estimate is not None:
        model.answer_with(arguments.estimate)
    config, scenario, path = _where(arguments, record, model)
    path.parent.mkdir(exist_ok=True)
    counts = arguments.num_trps or _default_counts(config, scenario, model)
    num_samples = arguments.num_samples or config.num_test

    def results_of(localizer: Any) -> dict[int, Any]:
        features = assembly.make_features(scenario, localizer)
        return evaluate_over_num_trps(
            localizer, scenario, features, counts, num_samples
        )

    results = results_of(model)
    tables = {}
    if config.num_trps in results:
        print(cli.metrics_text(results[config.num_trps].metrics))
        deviation = _range_deviation(arguments, scenario)
        tables |= _splits(results[config.num_trps], config.num_trps, deviation)
        print("By the number of TRPs per sample")
    tables["num_trps"] = _metrics(results)
    print(metrics_table(tables["num_trps"], heading="TRPs"))
    baseline = _baseline(arguments, record, config)
    if baseline is not None and assembly.serves(scenario, baseline):
        tables["multilateration"] = _metrics(results_of(baseline))
        table = metrics_table(tables["multilateration"], heading="TRPs")
        print(f"multilateration\n{table}")
    saving.write_json(path, tables)
    print(f"Saved in {path}")
    return 0


def _check_numbers(arguments: argparse.Namespace) -> None:
    """Raise `UserError` for a number that cannot be."""
    for name in ("num_trps", "num_samples"):
        values = getattr(arguments, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None:
                check_positive_int(name, value)
    if arguments.range_deviation is not None:
        check_positive("range_deviation", arguments.range_deviation)
    check_number("snr_db", arguments.snr_db)
    cli.check_scenario(arguments)


def _where(
    arguments: argparse.Namespace, record: dict[str, Any], model: Any
) -> tuple[RunConfig, Any, Path]:
    """Return what to evaluate on: configuration, scenario, and file of the results."""
    from sionna_loc import assembly, saving, transfer

    own = assembly.resolved_config(record)
    measured = cli.measured_options(arguments)
    if measured:
        own = assembly.with_measurements(own, measured)
    options = dict(arguments.scenario_options)
    config = transfer.with_scenario(own, arguments.scenario, options)
    scenario = assembly.make_scenario(config)
    assembly.check_measurements(record, scenario, arguments.run)
    name = f"{saving.EVALUATIONS}/{_file_name(config, arguments)}"
    if measured:
        config = transfer.sized(config, scenario, model)
        name = saving.MEASURED_EVALUATION if arguments.estimate is None else name
    elif config == own:
        _compare_scenario(record, scenario)
        name = saving.EVALUATION if arguments.estimate is None else name
    else:
        scenario = transfer.in_frame_of(model, record, scenario, arguments.run)
        if config.scenario != own.scenario:
            config = transfer.sized(config, scenario, model)
    return config, scenario, arguments.run / name


def _file_name(config: RunConfig, arguments: argparse.Namespace) -> str:
    """Return the name of a file for results with other than the run's settings.

    A digest tells apart what would have the same name without the characters that are
    left out of it.
    """
    options = sorted(dict(arguments.scenario_options).items())
    given = bool(cli.measured_options(arguments))  # not those of the run
    words = ["given_measurements" if given else config.scenario]
    words += [f"{name}={json.dumps(value)}" for name, value in options]
    if arguments.estimate is not None:
        words.append(f"estimate={arguments.estimate}")
    full = "-".join(words)
    name = re.sub(r"[^\w.=,+-]+", "", full, flags=re.ASCII)[:_LONGEST_NAME]
    if name != full:
        name += f"-{hashlib.sha256(full.encode()).hexdigest()[:8]}"
    return f"{name}.json"


def _baseline(
    arguments: argparse.Namespace, record: dict[str, Any], config: RunConfig
) -> Any:
    """Return the run's classical baseline; None if there is none, or not for here."""
    from sionna_loc import assembly, saving

    path = arguments.run / saving.BASELINE
    if not path.exists():
        return None
    own = assembly.resolved_config(record).scenario
    if arguments.scenario is None or config.scenario == own:
        return saving.load_model(path)
    print(
        f"multilateration is left out: it was calibrated on {own}. Its errors here: "
        f"python -m sionna_loc.train --scenario {config.scenario} "
        "--model multilateration"
    )
    return None


def _splits(evaluation: Any, num_trps: int, deviation: float | None) -> dict[str, Any]:
    """Print where the errors come from; return the tables."""
    from sionna_loc.evaluation import metrics_table

    tables = {"num_trps_heard": evaluation.by_num_trps_heard()}
    print(f"By how many of its {num_trps} TRPs a UE hears")
    print(metrics_table(tables["num_trps_heard"], heading="heard"))
    if (by_sight := evaluation.by_num_trps_los(deviation)) is not None:
        tables |= {"num_trps_los": by_sight, "range_deviation": deviation}
        bound = f"; bound for ranges of {deviation:.3g} m" if deviation else ""
        print(f"By how many of them it has in line of sight{bound}")
        print(metrics_table(by_sight, heading="LoS"))
    return tables


def _range_deviation(arguments: argparse.Namespace, scenario: Any) -> float | None:
    """Return how well ranges can be known [m], `None` if there are none."""
    from sionna_loc.error_bound import range_deviation

    if scenario.holds_inputs or not scenario.synchronised:
        return None
    if arguments.range_deviation is not None:
        return arguments.range_deviation
    return range_deviation(scenario.bandwidth, arguments.snr_db)


def _metrics(results: dict[int, Any]) -> dict[int, Any]:
    """Return number of TRPs -> metrics."""
    return {count: result.metrics for count, result in results.items()}


def _default_counts(config: RunConfig, scenario: Any, model: Any) -> list[int]:
    """Return the numbers of TRPs to evaluate with, around the one of the training."""
    if model.fixed_num_trps is not None:
        return [model.fixed_num_trps]
    factors = (0.25, 0.5, 1, 2, 4)
    counts = sorted({round(config.num_trps * factor) for factor in factors})
    counts = [count for count in counts if 1 <= count <= scenario.num_sites]
    return [count for count in counts if _can_have(scenario, count)]


def _can_have(scenario: Any, num_trps: int) -> bool:
    """Return whether samples of a scenario can have so many TRPs."""
    try:
        scenario.site_sets(num_trps)
    except UserError:
        return False
    return True


def _compare_scenario(record: dict[str, Any], scenario: Any) -> None:
    """Say so if the scenario is no longer the one of the training."""
    if record["fingerprint"] != scenario.fingerprint():
        print(
            "Note: the scenario has changed since the training; the test set differs.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    cli.run(main)
