"""Does everything hold on every architecture of timm? Each in a process of its own, with limits of memory and time.

A crash, a hang, and a network that is too large are rows as well. What is there is not made again.
"""

import argparse
import json
import multiprocessing
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.context import BaseContext
from pathlib import Path

from lsd import markdown
from lsd.errors import LSDError
from lsd.evaluation import conform

CHECKS = ("load", *(check.__name__ for check in conform.CHECKS))
_GOOD = ("right", "refused")
_TOOK_LONGER = "it took more than"
_PATIENCE = 10  # seconds by the clock for each of processor time, so that only what hangs reaches the end of them
_GLANCE = 0.5  # seconds between two looks whether the study is given up
_STRUCTURES = "structures.json"
_LOOKS = 50  # networks that are looked at between two times of writing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the study."""
    parser.add_argument("filter", nargs="*", default=["*"], help="names or wildcards of architectures (default: all)")
    parser.add_argument("--output", type=Path, required=True, help="a folder: a row each, and summary.md")
    parser.add_argument("--workers", type=int, default=1, help="networks at once (default: 1)")
    parser.add_argument("--memory", type=float, default=8.0, metavar="GIB", help="of one network (default: 8)")
    parser.add_argument("--seconds", type=float, default=600.0, help="of processor time for one network (default: 600)")
    parser.add_argument("--brief", action="store_true", help="the first of each structure briefly too")
    parser.add_argument("--report", action="store_true", help="sum up what is there; run nothing")


def run(options: argparse.Namespace) -> None:
    """Make the rows that are not there, and sum up."""
    import timm

    names = list(dict.fromkeys(name for pattern in options.filter for name in timm.list_models(pattern)))
    if not names:
        raise LSDError(f"No architecture of timm is called {', '.join(options.filter)}.")
    rows = options.output / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    if not options.report:
        _make(names, rows, options)
    found = [json.loads(path.read_text("utf-8")) for name in names if (path := rows / f"{name}.json").exists()]
    known = _known(options.output)
    text = "\n".join(summary([row | known.get(row["name"], {}) for row in found]))
    (options.output / "summary.md").write_text(text + "\n", "utf-8")
    print(text)


def _make(names: Sequence[str], rows: Path, options: argparse.Namespace) -> None:
    """The rows that are missing: of networks that differ in size alone the smallest is checked fully."""
    from tqdm import tqdm

    known = _looked_at(names, options.output)
    order = _in_order(names, known)
    leading = set(order[: len({known[name]["structure"] for name in names})])
    missing = [name for name in order if not (rows / f"{name}.json").exists()]
    # A server that has imported everything once, of which each network's process is a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lsd.evaluation.conform", "captum.attr"])
    stopped = threading.Event()
    with ThreadPoolExecutor(options.workers) as pool, tqdm(total=len(missing), unit="network") as bar:
        tasks = [
            pool.submit(_one, context, name, rows, options, options.brief or name not in leading, stopped)
            for name in missing
        ]
        try:
            for task in as_completed(tasks):
                bar.set_postfix_str(task.result())
                bar.update()
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _in_order(names: Sequence[str], known: Mapping[str, dict]) -> list[str]:
    """The smallest of each structure first, and of these one of every family, then another of each; all others by their size."""
    by_size = sorted(names, key=lambda name: known[name]["parameters"])
    structures: set[str] = set()
    of_family: Counter[str] = Counter()
    turns: dict[str, int] = {}
    for name in by_size:
        if known[name]["structure"] not in structures:
            structures.add(known[name]["structure"])
            turns[name] = of_family[conform.family(name)]
            of_family[conform.family(name)] += 1
    return sorted(turns, key=turns.__getitem__) + [name for name in by_size if name not in turns]


def _known(output: Path) -> dict[str, dict]:
    """Name → parameters and structure of the architectures that have been looked at."""
    file = output / _STRUCTURES
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def _looked_at(names: Sequence[str], output: Path) -> dict[str, dict]:
    """As `_known`, of all of these: those that are missing are built without numbers."""
    from tqdm import tqdm

    known = _known(output)
    missing = [name for name in names if name not in known]
    for i, name in enumerate(tqdm(missing, desc="structures", unit="network"), 1):
        known[name] = conform.look(name)
        if i % _LOOKS == 0 or i == len(missing):
            conform.write(output / _STRUCTURES, known)
    return known


def _one(
    context: BaseContext, name: str, rows: Path, options: argparse.Namespace, brief: bool, stopped: threading.Event
) -> str:
    """Check one architecture; its name. Its row appears under its own name only when nothing more can come of it.

    Args:
        stopped: set once the study is given up: what ends then says nothing of the network.
    """
    working, errors = rows / f".{name}.working", rows / f".{name}.errors"
    process = context.Process(
        target=conform.alone, args=(name, working, int(options.memory * 2**30), options.seconds, brief, errors)
    )
    process.start()
    deadline = time.monotonic() + _PATIENCE * options.seconds
    while process.is_alive() and time.monotonic() < deadline and not stopped.is_set():
        process.join(_GLANCE)
    if process.is_alive():
        process.kill()
        process.join()
        ended = f"{_TOOK_LONGER} {_PATIENCE * options.seconds:.0f} seconds by the clock"
    elif process.exitcode == -signal.SIGXCPU:
        ended = f"{_TOOK_LONGER} {options.seconds:.0f} seconds of processor time"
    else:
        said = " ".join(errors.read_text("utf-8", "replace").split())[-300:] if errors.exists() else ""
        ended = f"its process ended with {process.exitcode}: {said}"
    if not stopped.is_set():
        row = (
            json.loads(working.read_text("utf-8")) if working.exists() else {"name": name, "family": "", "next": "load"}
        )
        if row["next"]:
            row[row["next"]] = {"verdict": "broken", "why": ended}
        conform.write(rows / f"{name}.json", row)
    for file in (working, errors):
        file.unlink(missing_ok=True)
    return name


def verdict(row: dict) -> str:
    """What is to be said of a whole row: "right", "refused" (some check, with a reason), "wrong", "broken", "over memory" or "over
    time"."""
    found = [row[check]["verdict"] for check in CHECKS if check in row]
    if "over memory" in found or any(_is_memory(row[check]) for check in CHECKS if check in row):
        return "over memory"
    if any(_TOOK_LONGER in row[check].get("why", "") for check in CHECKS if check in row):
        return "over time"
    return next((kind for kind in ("broken", "wrong", "refused") if kind in found), "right")


def _is_memory(check: dict) -> bool:
    why = check.get("why", "")
    return check["verdict"] == "broken" and (
        "allocate memory" in why or "MemoryError" in why or "out of memory" in why.lower()
    )


def summary(rows: Iterable[dict]) -> list[str]:
    """Markdown: a line for each family, and every row that is not right."""
    rows = list(rows)
    families = defaultdict(list)
    for row in rows:
        families[row["family"]].append(row)
    kinds = ("right", "refused", "wrong", "broken", "over memory", "over time")
    total = Counter(map(verdict, rows))
    full = sum(row.get("profile") != "brief" for row in rows)
    structures = {row["structure"] for row in rows if "structure" in row}
    hours = sum(row.get("cpu_seconds", 0.0) for row in rows) / 3600
    lines = [f"{len(rows)} architectures: " + ", ".join(f"{total[kind]} {kind}" for kind in kinds), ""]
    lines += [
        f"Of {len(structures)} structures; {full} fully, {len(rows) - full} briefly; {hours:.2f} hours of processor time.", ""
    ]  # fmt: skip
    table = []
    for family, members in sorted(families.items()):
        count = Counter(map(verdict, members))
        placed = sum(sum(n for layout, n in row["layers"].get("layouts", {}).items() if layout in ("nchw", "nhwc", "tokens"))
                     for row in members if "layers" in row)  # fmt: skip
        refused = sum(sum(row["layers"].get("refused", {}).values()) for row in members if "layers" in row)
        captum, slope = (
            max((row[check].get("difference", 0.0) for row in members if check in row), default=0.0)
            for check in ("methods", "derivative")
        )
        shown = [str(count[kind] or "") for kind in kinds]
        table.append((family, *shown, str(placed), str(refused), f"{captum:.0e}", f"{slope:.0e}"))
    header = ["family", *kinds, "layers with places", "refused", "from Captum", "from differences"]
    lines += markdown.table(header, table)
    lines += ["", *(f"- {row['name']}: {text}" for row in rows for text in _complaints(row))]
    return lines


def _complaints(row: dict) -> Iterable[str]:
    for check in CHECKS:
        found = row.get(check)
        if found is None or found["verdict"] in _GOOD:
            continue
        parts = [f"{key}: {text}" for key, text in found.get("of", {}).items() if text.startswith("wrong")]
        yield f"{check} {found['verdict']}: " + (found.get("why") or "; ".join(parts) or json.dumps(found))
