"""What a run costs beside the ascent itself; Ray against this machine's own processes; and a run of which all is there.

    python -m benchmarks.precompute_overhead [--units 64] [--steps 64] [--models demo:resnet …] [--engines local ray]

The overhead is the wall time of `python -m precompute run`'s work (planning, pictures, verdicts, shards, markers, index)
divided by the seconds inside the ascent; the time to import Python's packages is told beside it, because a run pays it once.
With several workers the ascents of all are summed and divided by their number. Every run is a process of its own.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

_ROOT = Path(__file__).parents[1]
_CODE = """
import sys, time
start = time.perf_counter()
import precompute.plan
from precompute.run import run
from precompute.settings import read
imported = time.perf_counter()
model, units, steps, folder, engine, workers, task = sys.argv[1:]
precompute.plan.UNITS = int(task)
plan = precompute.plan.make_plan(read({"models": [model], "units": [units], "steps": int(steps)}))
planned = time.perf_counter()
report = run(plan, folder, engine=engine, workers=int(workers) or None)
assert not report.failures and not plan.problems, (report.failures, plan.problems)
done = time.perf_counter()
print("RESULT", report.pictures - report.reused, imported - start, planned - imported, done - planned, report.ascent)
"""


def measure(model: str, units: str, steps: int, folder: Path, engine: str, workers: int, task: int) -> list[float]:
    """[pictures made, seconds of importing, planning and running, seconds in the ascent over all workers]."""
    command = [sys.executable, "-c", _CODE, model, units, str(steps), str(folder), engine, str(workers), str(task)]
    made = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    found = re.search(r"RESULT (.*)", made.stdout)
    if found is None:
        raise SystemExit(made.stderr)
    return [float(word) for word in found[1].split()]


def units_of(model: str, count: int) -> str:
    """So many classes, or channels of the last block where there are fewer classes than that."""
    from lsd.layers import curated_layers
    from lsd.models import get_model

    loaded = get_model(model)
    if loaded.num_classes >= count:
        return f"class:0-{count - 1}"
    return f"{curated_layers(loaded)[-1].name}:channels:{count}"


def row(name: str, values: list[float], workers: int) -> None:
    pictures, imported, planned, ran, ascent = values
    share = f"{(planned + ran) / (ascent / workers):10.2f}" if ascent else f"{'':10}"
    print(f"{name:58}{pictures:9.0f}{imported:9.1f}{planned:9.1f}{ran:9.1f}{ascent / workers:9.1f}{share}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["demo:resnet"])
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--engines", nargs="+", choices=("local", "ray"), default=["local", "ray"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{'seconds':58}{'pictures':>9}{'import':>9}{'plan':>9}{'run':>9}{'ascent':>9}{'/ ascent':>10}")
    with tempfile.TemporaryDirectory(prefix="precompute-overhead-") as home:
        for model in options.models:
            units = units_of(model, options.units)
            one = Path(home) / "one"
            name = f"{model} {units}, {options.steps} steps"
            row(name, measure(model, units, options.steps, one, "local", 1, 64), 1)
            row("  again, all is there", measure(model, units, options.steps, one, "local", 1, 64), 1)
            one.rename(Path(home) / f"done-{time.monotonic_ns()}")
            os.environ["OMP_NUM_THREADS"] = "1"  # so that one worker and two have as much each
            for engine in options.engines:
                for workers in options.workers:
                    folder = Path(home) / f"{model.replace('/', '_')}-{engine}-{workers}"
                    values = measure(model, units, options.steps, folder, engine, workers, max(options.units // 8, 1))
                    row(f"  {engine}, {workers} worker{'s' * (workers > 1)}, one thread each, 8 tasks", values, workers)
            del os.environ["OMP_NUM_THREADS"]


if __name__ == "__main__":
    main()
