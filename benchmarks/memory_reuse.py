"""What does training gain where the memory that it frees is kept for the next step?

    python benchmarks/memory_reuse.py --scenario paris_scn2 --steps 60 --json FILE

Trains the default model in new processes, in turns with memory kept, as the library
has it (`sionna_loc._memory`), and as the C library does without
(`SIONNA_LOC_KEEP_MEMORY=0`). Reported are, of each, samples/s after the first fifth of
the steps (in which most is compiled), the processor time of the whole process, in the
program and in the kernel, and its peak memory; and kept / not kept of each.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from sionna_loc._memory import VARIABLE
from sionna_loc.saving import read_history


def train(scenario: str, steps: int, keep: bool, run_dir: Path) -> dict[str, float]:
    """Train in a process of its own; return its figures.

    Args:
        scenario: its name.
        steps: int > 0. Training steps.
        keep: bool. Whether freed memory is kept.
        run_dir: folder of the run, a new one.
    """
    command = [sys.executable, "-m", "sionna_loc.train", "--scenario", scenario]
    command += ["--steps", str(steps), "--run-dir", str(run_dir), "--no-baseline"]
    command += ["--num-val", "64", "--num-test", "64", "--quiet"]
    environment = {**os.environ, VARIABLE: "1" if keep else "0"}
    with subprocess.Popen(command, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"samples_per_second": throughput(run_dir), **figures_of(usage)}


def throughput(run_dir: Path) -> float:
    """Return samples/s of a run after the first fifth of its steps."""
    rows = read_history(run_dir)
    late = [row for row in rows if row["samples"] > 0.2 * rows[-1]["samples"]]
    before = [0.0, *(row["samples"] for row in rows)][-len(late) - 1 : -1]
    count = [row["samples"] - begin for row, begin in zip(late, before, strict=True)]
    seconds = sum(
        number / row["samples_per_second"]
        for number, row in zip(count, late, strict=True)
    )
    return sum(count) / seconds


def figures_of(usage: resource.struct_rusage) -> dict[str, float]:
    """Return processor times [s] and peak memory [MB] of a process that has ended."""
    return {
        "program_seconds": usage.ru_utime,
        "kernel_seconds": usage.ru_stime,
        "peak_megabytes": usage.ru_maxrss * 1024 / 1e6,
    }


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", default="paris_scn2")
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    parser.add_argument("--turns", type=int, default=1, help="trainings of each kind")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    turns = []
    for turn in range(options.turns):
        for keep in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                run_dir = Path(folder) / "run"
                figures = train(options.scenario, options.steps, keep, run_dir)
            turns.append({"turn": turn, "kept": keep, **figures})
            print(turns[-1], flush=True)
    names = list(figures)
    mean = {
        keep: {
            name: sum(turn[name] for turn in turns if turn["kept"] is keep)
            / options.turns
            for name in names
        }
        for keep in (True, False)
    }
    ratio = {name: mean[True][name] / mean[False][name] for name in names}
    print(f"{'':22}{'kept':>10}{'not kept':>10}{'ratio':>8}")
    for name in names:
        kept, plain = mean[True][name], mean[False][name]
        print(f"{name:22}{kept:10.1f}{plain:10.1f}{ratio[name]:8.2f}")
    if options.json:
        report = {"scenario": options.scenario, "steps": options.steps}
        report |= {"turns": turns, "ratio": ratio}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
