"""One GPU, measured: `benchmarks/gpu.sh`, which see. A part that fails says why in its row, and the others go on.

Random weights serve for speed, since the arithmetic is that of trained ones.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import timm
import torch
from PIL import Image

from lsd import markdown, precision
from lsd.features.ascent import ascend
from lsd.features.prepare import prepare
from lsd.features.recipes import LSD, LUCID, Recipe
from lsd.models import ImageModel, load_model
from lsd.provenance import png

NETWORKS = ("resnet50", "vit_base_patch16_224")
LIMIT = 410  # seconds for everything
BARS = {"resnet50": 60, "vit_base_patch16_224": 240}  # seconds for a thousand classes


@dataclass
class Report:
    """Rows of the table as they come: what, the figure, the bar or "", and plain values for the JSON file."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)

    def add(self, what: str, shown: str, value: object, bar: str = "") -> None:
        """One figure."""
        self.rows.append((what, shown, bar))
        self.values[what] = value
        print(f"{what}: {shown}", flush=True)

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Work that may fail without the rest."""
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.add(what, f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", None)
        self.values[f"{what}, seconds"] = round(time.perf_counter() - started, 1)
        torch.cuda.empty_cache()


def _model(name: str) -> ImageModel:
    torch.manual_seed(0)
    return ImageModel(timm.create_model(name), name).cuda()


def tests(report: Report) -> None:
    """The tests that need a GPU."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu", "-p", "no:cacheprovider"],
                          capture_output=True, text=True, timeout=150)  # fmt: skip
    print(done.stdout[-3000:], done.stderr[-1000:])
    report.add("tests marked gpu", done.stdout.strip().splitlines()[-1], done.returncode == 0, "all pass")


def agreement(report: Report) -> None:
    """Handwritten methods against Captum's on twelve families, in fp32 and with TF32."""
    from benchmarks.families import CASES, METHODS
    from lsd.errors import UndefinedError
    from lsd.saliency.crosscheck import crosscheck
    from lsd.saliency.targets import Target

    cases = CASES[:: max(1, len(CASES) // 12)][:12]
    for kind in ("fp32", "tf32"):
        precision.choose(kind)
        checks = []
        for case in cases:
            model = case.build().cuda()
            image = torch.rand(1, 3, case.size, case.size, generator=torch.Generator().manual_seed(0)).cuda()
            for method, settings in METHODS.items():
                try:
                    checks.append((case.name, crosscheck(model, image, Target(3), method, **settings)))
                except UndefinedError:
                    continue
        compared = [(name, check) for name, check in checks if check.difference is not None]
        off = [f"{name} {check.method} {check.difference:.0e}" for name, check in compared if not check.agrees]
        worst = max(check.difference for _, check in compared)
        shown = (
            f"{len(compared) - len(off)} of {len(compared)} agree, largest difference {worst:.0e} {'; '.join(off[:4])}"
        )
        report.add(f"cross-check, {len(cases)} families, {kind}", shown, {"worst": worst, "off": off}, "all agree")
    precision.choose("fp32")


def _timed(work: Callable[[], object], rounds: int) -> float:
    """Milliseconds, the median of `rounds`, between events of the GPU itself."""
    work()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def _step(model: ImageModel, recipe: Recipe, batch: int, **how) -> float:
    """Milliseconds a step of `ascend` at the final size, all that belongs to it, a snapshot every sixteen steps included."""
    recipe = replace(recipe, steps=65, stages=((1.0, 1.0),), redirect_steps=0)
    at = []
    for shot in ascend(model, [f"class/{i}" for i in range(batch)], recipe, batch_size=batch, every=16, **how):
        torch.cuda.synchronize()
        at.append((shot.step, time.perf_counter()))
    (first, began), (last, ended) = at[1], at[-2]  # without the first steps, and without the end's judging
    return (ended - began) / (last - first) * 1e3


def steps(report: Report, ways=(("fp32", 0, 0), ("tf32", 0, 0), ("tf32", 1, 0))) -> None:
    """Whole step / bare passes of the same network, in each of the ways (precision, half, compiled)."""
    for name in NETWORKS:
        model = _model(name)
        batch = 64
        images = torch.rand(batch, 3, 224, 224, device="cuda")
        for kind, half, compiled in ways:
            what = f"{name}, {'bf16' if half else kind}{', compiled' if compiled else ''}"
            with report.part(f"step / bare passes, {what}"):
                precision.choose(kind)
                twin = prepare(model, half=bool(half), compiled=bool(compiled))
                x = images.to(twin.dtype).requires_grad_(True)
                bare = _timed(lambda x=x, twin=twin: torch.autograd.grad(twin(x)[:, 0].sum(), x)[0], 10)
                for recipe in (LUCID,) if compiled else (LUCID, LSD):
                    whole = _step(model, recipe, batch, half=bool(half), compiled=bool(compiled))
                    shown = f"{whole / bare:.2f} ({whole / batch:.3f} and {bare / batch:.3f} ms an image)"
                    report.add(f"step / bare passes, {what}, {recipe.name}", shown, whole / bare, "1.15")
    precision.choose("fp32")


def profile(report: Report) -> None:
    """Where the GPU's time in a step goes: the kernels by their share, to be read rather than compared."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    precision.choose("tf32")
    for name in NETWORKS:
        with report.part(f"profile, {name}"):
            recipe = replace(LSD, steps=25, stages=((1.0, 1.0),), redirect_steps=0)
            shots = ascend(_model(name), [f"class/{i}" for i in range(64)], recipe, batch_size=64, every=8)
            next(shots), next(shots)
            with profiled(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
                next(shots)
                torch.cuda.synchronize()
            shots.close()
            kernels = [e for e in found.key_averages() if e.self_device_time_total and not e.self_cpu_time_total]
            kernels.sort(key=lambda e: -e.self_device_time_total)
            total = sum(e.self_device_time_total for e in kernels)
            shares = [(e.key[:100], e.count / 8, e.self_device_time_total / total) for e in kernels]
            for kernel, count, share in shares[:24]:
                print(f"{share:6.1%} {count:7.1f} a step  {kernel}")
            calls = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)[:12]
            print("; ".join(f"{e.key[:40]} {e.self_cpu_time_total / 8e3:.1f} ms ({e.count / 8:.0f})" for e in calls))
            report.add(
                f"kernels, {name}", f"{sum(c for _, c, _ in shares):.0f} a step, {total / 8e3:.1f} ms", shares[:40]
            )
    precision.choose("fp32")


@contextmanager
def _watched(report: Report, what: str) -> Iterator[None]:
    """Samples, five a second, of how busy the GPU says it is."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found: list[float] = []
    reader = threading.Thread(
        target=lambda: found.extend(float(line) for line in watcher.stdout if line.strip()), daemon=True
    )
    reader.start()
    try:
        yield
    finally:
        watcher.terminate()
        reader.join(5)
        if found:
            report.add(f"GPU busy, {what}", f"{statistics.mean(found):.0f}%", statistics.mean(found), "95%")


def pictures(report: Report) -> None:
    """Pictures a second at the batch that is found, and the memory it takes."""
    precision.choose("tf32")
    for name in NETWORKS:
        with report.part(f"pictures a second, {name}"):
            model = _model(name)
            torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            shots = ascend(model, [f"class/{i}" for i in range(256)], LSD)
            next(shots)  # the batch that fits is found, and the kernels are chosen
            with _watched(report, f"ascent, {name}"):
                made = [p for shot in shots for p in shot.finished]
            seconds = time.perf_counter() - began
            peak = torch.cuda.max_memory_allocated() / 2**30
            rate = len(made) / seconds
            report.add(f"pictures a second, {name}, {LSD.steps} steps", f"{rate:.1f}", rate)
            report.add(f"peak memory, {name}, batch of {len(made)}", f"{peak:.1f} GiB", peak)
    precision.choose("fp32")


def gallery(report: Report, folder: Path, until: float) -> None:
    """A thousand classes from end to end: plan, load, ascent, judging, WebP, shards, index; given up at `until`."""
    for name, kind in ((NETWORKS[0], "tf32"), (NETWORKS[1], "tf32"), (NETWORKS[0], "bf16")):
        if time.perf_counter() > until - 30:
            report.add(f"1,000 classes into shards, {name}, {kind}", "left out: the time was used up", None)
            continue
        with report.part(f"1,000 classes, {name}, {kind}"):
            models, output = folder / "models", folder / f"{name}-{kind}"
            torch.manual_seed(0)
            folder_of = models / f"{name}.random_in1k"
            timm.models.save_for_hf(timm.create_model(name), folder_of, safe_serialization=True)
            command = [sys.executable, "-m", "precompute", "run", "--models", f"{name}.random_in1k", "--units", "class:all",
                       "--precision", kind, "--output", str(output)]  # fmt: skip
            began = time.perf_counter()
            with _watched(report, f"1,000 classes, {name}, {kind}"):
                subprocess.run(command, check=True, env=os.environ | {"LSD_MODEL_PATH": str(models)},
                               timeout=max(30, until - time.perf_counter()))  # fmt: skip
            seconds = time.perf_counter() - began
            done = [json.loads(path.read_text()) for path in sorted((output / "done").glob("*.json"))]
            ascent, whole = (statistics.mean(task[key] for task in done) for key in ("ascent", "seconds"))
            shown = f"{seconds:.0f} s; a task of 64 took {whole:.1f} s, {ascent:.1f} s of them in the ascent"
            report.add(f"1,000 classes into shards, {name}, {kind}", shown, seconds, f"{BARS[name]} s")


def sheets(report: Report, folder: Path) -> None:
    """Pictures of a real network where its package is there, else of a demo network, in each precision: a sheet to be looked at,
    and all of them in a ZIP for `python -m benchmarks.gpu_quality`, on a machine that has other networks."""
    from lsd.features import bundle
    from lsd.features.units import title
    from lsd.packages import PACKAGES

    try:
        model = load_model(next(iter(PACKAGES)), device="cuda")
    except Exception:
        model = load_model("demo:resnet", device="cuda")
    units = [f"class/{i}" for i in range(7, model.num_classes, 20)]
    for kind in precision.KINDS:
        precision.choose(kind)
        made = [p for s in ascend(model, units, LSD, half=precision.halves(model.device)) for p in s.finished]
        with zipfile.ZipFile(folder / f"pictures-{kind}.zip", "w") as archive:
            for picture in made:
                archive.writestr(f"{picture.job.unit.arguments[0]}.png", png(Image.fromarray(picture.pixels)))
        some = made[::6]
        sheet = bundle.sheet(some, [title(p.job.unit, model) for p in some], f"{model.name}, {kind}")
        (folder / f"sheet-{kind}.png").write_bytes(sheet)
    precision.choose("fp32")
    report.add("sheets", f"{model.name}: {', '.join(precision.KINDS)}", len(units))


def main() -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="PART", help="some parts instead of all")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for everything")
    arguments = parser.parse_args()
    output = arguments.output
    if not torch.cuda.is_available():
        raise SystemExit("There is no NVIDIA GPU here; nothing was measured.")
    report, began = Report(), time.perf_counter()
    report.add("card", f"{torch.cuda.get_device_name()}, torch {torch.__version__}, timm {timm.__version__}", None)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        until = began + arguments.limit
        parts = {
            "tests": lambda: tests(report), "cross-check": lambda: agreement(report), "steps": lambda: steps(report),
            "profile": lambda: profile(report), "pictures": lambda: pictures(report), "sheets": lambda: sheets(report, output),
            "gallery": lambda: gallery(report, Path(folder), until),
            "compiled": lambda: steps(report, (("tf32", 0, 1), ("tf32", 1, 1))),
        }  # fmt: skip
        for what in arguments.only or parts:
            work = parts[what]
            if time.perf_counter() > until - 30:
                report.add(what, "left out: the time was used up", None)
                continue
            with report.part(what):
                work()
            table = "\n".join(markdown.table(["what", "figure", "bar"], report.rows))
            (output / "gpu.json").write_text(json.dumps(report.values, indent=1, default=str))  # whatever ends the rest
            (output / "gpu.md").write_text(table + "\n")
    print(f"\n{table}\n\n{time.perf_counter() - began:.0f} s altogether")


if __name__ == "__main__":
    main()
