"""`python -m precompute plan | run | status | verify | compact | publish`."""

import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from lsd.errors import LSDError
from lsd.memory import keep_freed_memory
from lsd.process import print_anywhere


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m precompute", description="Feature visualizations by the thousand.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, about in (
        ("plan", "what a run would do, and about what it costs"),
        ("run", "make what is not there yet"),
    ):
        command = commands.add_parser(name, help=about)
        _add_settings(command)
        command.add_argument("--output", required=name == "run", metavar="DIR", help="a folder, or a bucket's URL")
        command.add_argument(
            "--budget",
            metavar="TIME",
            help="30min, 2h, 1d of one worker on this machine: the most valuable units first",
        )
        command.add_argument(
            "--precision", choices=("fp32", "tf32", "bf16"), default="tf32", help="of a GPU's products (default: tf32)"
        )
        command.add_argument(
            "--deterministic",
            action="store_true",
            help="on a GPU, the same bits every time as far as torch can; slower",
        )
    command.add_argument("--engine", choices=("local", "ray"), default="local", help="where (default: local)")
    command.add_argument("--address", help="of a Ray cluster (default: start one here)")
    command.add_argument("--workers", type=int, metavar="N", help="tasks at once (default: two a GPU, else one)")
    command.add_argument("--retry-failed", action="store_true", help="try rows again that failed before")

    command = commands.add_parser("status", help="how far the runs in a folder are")
    command.add_argument("output", metavar="DIR")
    command.add_argument("--deep", action="store_true", help="read every shard and compare its SHA-256")

    command = commands.add_parser("verify", help="make some pictures again from their rows, and compare")
    command.add_argument("output", metavar="DIR")
    command.add_argument("--sample", default="1%", help="a share of the rows, or a number (default: 1%%)")
    command.add_argument("--seed", type=int, default=0, help="another sample")
    command.add_argument(
        "--models", nargs="+", default=["*"], metavar="NAME", help="only their rows; wildcards will do"
    )
    _add_copy(command)
    command.add_argument("--strict", action="store_true", help="fail too where a model's weights cannot be had")

    command = commands.add_parser("compact", help="put the run's many small files together, while no run is under way")
    command.add_argument("output", metavar="DIR")
    command.add_argument("--shard-mb", type=int, default=256, metavar="N", help="MiB in one file (default: 256)")

    command = commands.add_parser("publish", help="put the data set together and send it to the Hub")
    command.add_argument("output", metavar="DIR")
    command.add_argument("--repo", required=True, metavar="USER/NAME")
    command.add_argument("--folder", type=Path, help="where it is put together (default: DIR-published)")
    command.add_argument(
        "--shard-mb", type=int, default=256, metavar="N", help="MiB of pictures in one file (default: 256)"
    )
    _add_copy(command)
    command.add_argument("--dry-run", action="store_true", help="put it together, and send nothing")
    return parser


def _add_copy(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--copy",
        type=Path,
        metavar="FOLDER",
        help="where a bucket's files are copied to first (default: NAME-copy here)",
    )


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with the same settings")
    command.add_argument("--models", nargs="+", metavar="NAME", help="names, or timm's wildcards: vit_tiny_*")
    command.add_argument(
        "--units", nargs="+", metavar="PATTERN",
        help="class:all, class:7,27,40-49, layer:curated:16, layer3:channels, class/207, …",
    )  # fmt: skip
    command.add_argument("--recipe", nargs="+", metavar="NAME", help="names or JSON files (default: lsd)")
    command.add_argument("--set", nargs="+", metavar="NAME=VALUE", help="settings of the recipes, such as steps=256")
    command.add_argument("--seeds", type=int, metavar="N", help="pictures of each unit (default: 1)")
    command.add_argument("--size", type=int, metavar="PIXELS", help="side (default: what the model takes)")
    command.add_argument("--steps", type=int, metavar="N", help="of the ascent (default: the recipe's)")
    command.add_argument("--effort", help="draft, normal or fine: .3, 1 or 4 times the recipe's steps")
    command.add_argument("--verifiers", nargs="+", metavar="NAME", help="models that say what they see")
    command.add_argument(
        "--outputs", nargs="+", metavar="[MODEL=]WHAT", help="what outputs are: classes, sigmoid or embedding"
    )
    command.add_argument(
        "--layout", nargs="+", metavar="[MODEL=]NAME=HOW", help="how layers' outputs are laid out: blocks.3=tokens:1, …"
    )
    command.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures at once (default: what suits the device)"
    )
    command.add_argument("--quality", type=int, metavar="N", help="of the WebP pictures, 1 to 100 (default: 90)")
    command.add_argument(
        "--photos", metavar="DIR", help="your photos: rows get the places in them that excite their unit most"
    )
    command.add_argument(
        "--crops",
        action="store_true",
        default=None,
        help="copy those places into the rows, too (default: names and boxes only)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status: 0 all well, 1 something failed, 2 nothing could be done, 130 interrupted."""
    options = build_parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except LSDError as error:
        print(f"precompute: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nprecompute: stopped; run the same command again to go on.", file=sys.stderr)
        return 130


def _make_plan(options: argparse.Namespace):
    from precompute.plan import joined, make_plan
    from precompute.settings import KEYS, read_parts

    told = lambda name: print(f"looking at {name}", file=sys.stderr)  # noqa: E731
    parts = read_parts({name: getattr(options, name) for name in KEYS}, options.config)
    plan = joined([make_plan(settings, told) for settings in parts])
    for problem in plan.problems:
        print(f"precompute: {problem}", file=sys.stderr)
    if not plan.tasks:
        raise LSDError("There is nothing to do.")
    return plan


def _plan(options: argparse.Namespace) -> int:
    from lsd import precision
    from lsd.models import get_model
    from lsd.provenance import environment
    from precompute.budget import most_valuable
    from precompute.cost import Costs
    from precompute.run import missing_of
    from precompute.storage import Storage
    from precompute.work import all_finished, made_without_photos

    precision.to_environment(options.precision, deterministic=options.deterministic)
    budget = _budget(options)
    plan = _make_plan(options)
    tasks, made = plan.tasks, set()
    if options.output:
        storage = Storage(options.output)
        there = storage.sizes("")
        done = {name: record.outcome for name, record in all_finished(tasks, storage, there).items()}
        tasks = missing_of(tasks, done)
        made = made_without_photos(tasks, storage, there)
        print(f"{_count(set(plan.tasks) - set(tasks))} are there already")
    costs = Costs(plan.tasks, made)
    now = tasks if budget is None else most_valuable(plan.tasks, tasks, budget, costs.seconds)
    models = defaultdict(list)
    for task in now:
        models[task.model, task.recipe.name].append(task)
    for (model, recipe), some in models.items():
        print(f"{model}, {recipe}: {_cost(some, costs)}", flush=True)
    if not now:
        return 1 if plan.problems else 0
    seen = environment(get_model(now[0].model).device)
    where = (
        f"{seen['device']}, {seen['precision']}"
        if "precision" in seen
        else f"{seen['device']}, {seen['threads']} threads"
    )
    print(f"{len(now):,} tasks, {_cost(now, costs)}")
    print(
        f"an estimate for this machine ({where}) with one worker, from two steps of each network, recipe and kind of unit"
        f"{', and a look at some photos' * any(task.photos for task in now)}, taken just now; loading, judging and writing are "
        "not in it"
    )
    if left := set(tasks) - set(now):
        print(f"left for another time: {_count(left)}")
    return 1 if plan.problems else 0


def _count(tasks: Collection) -> str:
    return f"{len(tasks):,} tasks, {sum(task.pictures for task in tasks):,} pictures"


def _cost(tasks: Collection, costs) -> str:
    pictures, seconds = sum(task.pictures for task in tasks), sum(map(costs.seconds, tasks))
    return f"{pictures:,} pictures, about {_size(sum(map(costs.bytes, tasks)))}, about {_duration(seconds)}"


def _budget(options: argparse.Namespace) -> float | None:
    from precompute.budget import seconds_in

    return None if options.budget is None else seconds_in(options.budget)


def _run(options: argparse.Namespace) -> int:
    from lsd import precision
    from precompute.run import run

    precision.to_environment(options.precision, deterministic=options.deterministic)
    budget = _budget(options)
    plan = _make_plan(options)
    report = run(
        plan, options.output, engine=options.engine, address=options.address, workers=options.workers,
        again=options.retry_failed, budget=budget,
    )  # fmt: skip
    made = report.pictures - report.reused
    overhead = f", {report.ascent / report.seconds:.0%} of it in the ascent" if made and report.ascent else ""
    print(f"{options.output}: {report.pictures:,} rows, {made:,} of them made in {_duration(report.seconds)}{overhead}")
    if report.left:
        print(f"left for another time: {_count(report.left)}; the same command goes on with them")
    _print_failures(report.failures)
    for shard, reason in report.damaged.items():
        print(f"left out of the index: {shard}: {reason}", file=sys.stderr)
    return 1 if report.failures or report.damaged or plan.problems else 0


def _print_failures(failures: Sequence[tuple[str, str]]) -> None:
    for what, sentence in failures[:20]:
        print(f"failed: {what}: {sentence}", file=sys.stderr)
    if len(failures) > 20:
        print(f"… and {len(failures) - 20:,} more", file=sys.stderr)


def _status(options: argparse.Namespace) -> int:
    from precompute.status import status
    from precompute.storage import Storage

    found = status(Storage(options.output), options.deep)
    print(f"{found.tasks_done:,} of {found.tasks:,} tasks, {found.pictures_done:,} of {found.pictures:,} pictures")
    left = found.pictures - found.pictures_done
    if left and found.seconds_a_picture:
        print(f"about {_duration(left * found.seconds_a_picture)} left with one worker like the ones before")
    print(f"{len(found.failures):,} failed" + (f", {len(found.damaged):,} shards damaged" if options.deep else ""))
    _print_failures(found.failures)
    for shard in found.damaged:
        print(f"damaged: {shard}; delete it, and run the same command again", file=sys.stderr)
    return 1 if left or found.failures or found.damaged else 0


def _verify(options: argparse.Namespace) -> int:
    from precompute.verify import UNAVAILABLE, parse_sample, verify

    verdicts, unavailable = Counter(), set()
    sample, folder = parse_sample(options.sample), _on_disk(options)
    for check in verify(folder, sample, options.seed, options.models):
        if check.verdict == UNAVAILABLE:
            unavailable.add(check.unit_id)
        else:
            verdicts[check.verdict] += 1
        if check.verdict != "identical":
            similarity = "" if check.similarity is None else f" (SSIM {check.similarity:.3f})"
            print(f"{check.verdict}: {check.unit_id}{similarity}{check.reason and ': ' + check.reason}", flush=True)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common()) or "none"
    left = f"; {len(unavailable)} model{'s' * (len(unavailable) > 1)} cannot be had here" if unavailable else ""
    print(f"{verdicts.total()} pictures made again: {counts}{left}")
    return 1 if verdicts["different"] or verdicts["impossible"] or (options.strict and unavailable) else 0


def _compact(options: argparse.Namespace) -> int:
    from precompute.compact import compact
    from precompute.indexed import build
    from precompute.storage import Storage

    storage = Storage(options.output)
    _check_size(options.shard_mb)
    storage.clean()
    done = compact(storage, options.shard_mb * 2**20)
    damaged = build(storage).damaged
    print(f"{options.output}: {done.before:,} files of pictures before, {done.after:,} now")
    for shard, reason in damaged.items():
        print(f"left out of the index: {shard}: {reason}", file=sys.stderr)
    return 1 if damaged else 0


def _on_disk(options: argparse.Namespace) -> Path:
    """A run's folder, or a copy of a bucket's shards."""
    from precompute.copied import on_disk
    from precompute.storage import Storage

    storage = Storage(options.output)
    copy = options.copy or Path(f"{_name(storage)}-copy")
    folder = on_disk(storage, copy)
    if not storage.local:
        print(f"{options.output} is copied to {copy}; the next time only what is new will be", file=sys.stderr)
    return folder


def _name(storage) -> str:
    return storage.url.rstrip("/").rpartition("/")[2]


def _check_size(megabytes: int) -> None:
    if megabytes < 1:
        raise LSDError(f"A file holds at least 1 MB of pictures, not {megabytes}.")


def _publish(options: argparse.Namespace) -> int:
    from precompute.publish import assemble, upload
    from precompute.storage import Storage

    _check_size(options.shard_mb)
    source = _on_disk(options)
    folder = options.folder or source.with_name(f"{_name(Storage(options.output))}-published")
    told = lambda model: print(f"putting together {model}")  # noqa: E731
    rows = assemble(source, options.repo, folder, told, options.shard_mb * 2**20)
    print(f"{folder}: {rows:,} rows, {_size(sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()))}")
    if not options.dry_run:
        print(f"published: {upload(folder, options.repo)}; a page with LSD_GALLERY_REPO set to that shows it")
    return 0


_COMMANDS = {"plan": _plan, "run": _run, "status": _status, "verify": _verify, "compact": _compact, "publish": _publish}


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    keep_freed_memory()
    print_anywhere()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin cost their neighbours dearly
    sys.exit(main())
