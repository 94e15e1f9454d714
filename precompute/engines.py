"""Where tasks run: here, in several processes of this machine, or on a Ray cluster. The work is the same under each.

An engine takes tasks and yields their outcomes as they come. Scheduling is the standard library's and Ray's. A task whose
machine failed is tried again, a few times: in another process, and on a cluster on another node.
"""

import os
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from lsd.errors import LSDError
from lsd.faults import DEVICE, MEMORY
from lsd.memory import keep_freed_memory
from precompute.tasks import Task
from precompute.work import Outcome, one_sentence, run_task

_TRIES = 3  # of a task whose process or node is lost, or whose machine fails
_PAUSES = (1.0, 5.0)  # seconds before the second try and the third
_AHEAD = 4  # Ray tasks a worker that wait beside the one under way, so that none is idle


def in_process(tasks: Sequence[Task], url: str, again: bool = False) -> Iterator[Outcome]:
    """One task after another, in this process."""
    for task in tasks:
        for pause in (*_PAUSES, None):
            outcome = run_task(task, url, again)
            if not outcome.fault or pause is None:
                break
            time.sleep(pause)
        yield outcome


def in_processes(tasks: Sequence[Task], url: str, workers: int, again: bool = False) -> Iterator[Outcome]:
    """Several tasks at once, each worker a process of its own: GPUs in turn where there are any, else shares of the cores.

    A worker that is killed takes the pool with it. What was under way in it is then done one task at a time, which finds
    the one to blame: a task that was under way in three lost pools is given up, and a new pool goes on with the rest. A
    worker whose device or memory failed is given no more work, since a process does not come back from that: the others
    finish what they are at, and a new pool goes on, without that worker's place while there are others.
    """
    left = {task.hash: task for task in tasks}
    tries: Counter[str] = Counter()
    dead: set[str] = set()
    context = get_context("spawn")
    while left:
        under_way: dict[Future, Task] = {}
        alive = [place for place in range(workers) if str(place) not in dead] or list(range(workers))
        suspects = [task for task in left.values() if tries[task.hash]]
        queue = deque(suspects or left.values())
        places, (end, ours) = context.Queue(), context.Pipe(duplex=False)
        at_once = alive[:1] if suspects else alive
        for place in at_once:
            places.put(place)
        with ProcessPoolExecutor(len(at_once), context, _enter_worker, (places, end, workers)) as pool:
            try:
                worn = False
                while (queue and not worn) or under_way:
                    while queue and not worn and len(under_way) < len(at_once):
                        task = queue.popleft()
                        under_way[pool.submit(_in_worker, run_task, task, url, again)] = task
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        outcome, task = future.result(), under_way.pop(future)
                        if outcome.fault in (DEVICE, MEMORY):
                            worn = True
                        if outcome.fault == DEVICE:
                            dead.add(outcome.place)
                        if outcome.fault and (pause := _pause(tries, task)) is not None:
                            queue.append(task)
                            time.sleep(pause)
                            continue
                        del left[task.hash]
                        yield outcome
            except BrokenProcessPool:
                for task in under_way.values():
                    if _pause(tries, task) is None:
                        del left[task.hash]
                        yield _lost(task)
            except BaseException:  # interrupted, or the folder cannot be used: nobody waits for what is under way
                ours.close()
                raise


def _pause(tries: Counter[str], task: Task) -> float | None:
    """Count one more try of a task that came to nothing: the seconds before the next, None if that was the last."""
    tries[task.hash] += 1
    return _PAUSES[tries[task.hash] - 1] if tries[task.hash] < _TRIES else None


_place = ""  # which of the workers this process is


def _in_worker(work: Callable[..., Outcome], task: Task, url: str, again: bool) -> Outcome:
    return replace(work(task, url, again), place=_place)


def _lost(task: Task) -> Outcome:
    sentence = f"The process that made it died {_TRIES} times; is there enough memory? --batch-size 1 takes less."
    return Outcome(task.hash, 0, ((task.title, sentence),))


def _enter_worker(places, end, workers: int) -> None:
    """Give a new worker process its GPU or its share of the cores, and let it end with the run that started it."""

    def watch() -> None:
        end.poll(None)  # until the other side is closed: the run was killed, or gave up
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted terminal tells everybody; the run decides
    threading.Thread(target=watch, daemon=True).start()
    keep_freed_memory()
    import torch

    global _place
    place = places.get()
    _place = str(place)
    if torch.cuda.is_available():
        torch.cuda.set_device(place % gpus())
        # Workers that share a GPU find out how large a batch may be in their own part of its memory.
        torch.cuda.set_per_process_memory_fraction(1 / -(-workers // gpus()))
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def gpus() -> int:
    """How many this machine has."""
    import torch

    return torch.cuda.device_count()


def on_ray(
    tasks: Sequence[Task], url: str, address: str | None = None, workers: int | None = None, again: bool = False
) -> Iterator[Outcome]:
    """On a Ray cluster, or on a local one that is started if no address is given.

    Every task asks for one GPU where the cluster has any, else for `OMP_NUM_THREADS` cores (two); some more wait than there is
    room for, by which a cluster that grows knows that it should. Tasks of a lost node are run on another, and so are those
    whose machine failed; a node whose device failed is given no more work while there are others, and hands back what it had
    been given before. The code travels with the run. The folder must be one that all nodes see, a bucket or a shared
    file system, and so must those of `LSD_MODEL_PATH`.

    Args:
        address: None for that in `RAY_ADDRESS`, or else for a cluster of this machine's own.

    Raises:
        LSDError: Ray is not installed, there is no cluster at that address, it was lost, or its nodes cannot run this program.
    """
    try:
        import ray
    except ImportError as error:
        raise LSDError('The engine “ray” needs Ray; install it with pip install "ray>=2.50".') from error
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    nobody = f"There is no Ray cluster at {address}; start one with ray start --head."
    if not _answers(address):  # Ray itself would wait for a minute, and then end this process
        raise LSDError(nobody)
    try:
        ray.init(
            address=address, runtime_env=_runtime_env(), log_to_driver=False, logging_level="ERROR",
            configure_logging=False,
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address == "local":
            raise LSDError(f"Ray cannot be started here: {one_sentence(error)}.") from error
        raise LSDError(nobody) from error
    try:
        needs, _ = _shares(_resources(ray))
        remote = ray.remote(max_retries=_TRIES - 1, retry_exceptions=False, **needs)(_run_on_ray)
        queue, under_way = deque(tasks), {}
        tries: Counter[str] = Counter()
        dead: set[str] = set()  # nodes whose device failed
        shunned: dict[str, set[str]] = {}  # by task: nodes on which it failed
        while queue or under_way:
            limit = workers or _shares(_resources(ray))[1] * _AHEAD  # nodes come and go
            while queue and len(under_way) < limit:
                task = queue.popleft()
                elsewhere = _elsewhere(remote, dead | shunned.get(task.hash, set()), ray)
                under_way[elsewhere.remote(task.to_dict(), url, again, needs["num_cpus"], "num_gpus" in needs)] = task
            done, _ = ray.wait(list(under_way), num_returns=1)
            for reference in done:
                task = under_way.pop(reference)
                try:
                    outcome = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RuntimeEnvSetupError as error:
                    raise LSDError("The nodes of the Ray cluster cannot take over this program's code.") from error
                except ray.exceptions.RayError:
                    yield _lost(task)
                    continue
                known = outcome.place in dead
                if outcome.fault == DEVICE:
                    dead.add(outcome.place)
                if outcome.fault and (pause := _pause(tries, task)) is not None:
                    shunned.setdefault(task.hash, set()).add(outcome.place)
                    queue.append(task)
                    if not known:  # else it was given to that node before its device failed
                        time.sleep(pause)
                    continue
                yield outcome
    finally:
        ray.shutdown()


def _resources(ray) -> list[dict[str, float]]:
    """What each node that is there has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _elsewhere(remote, nodes: set[str], ray):
    """The remote function, to be run on none of these nodes, if there are any others."""
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in nodes] if nodes else []
    return remote.options(label_selector={"ray.io/node-id": f"!in({','.join(sorted(nodes))})"}) if others else remote


def _answers(address: str) -> bool:
    """Whether anybody listens at a cluster's address; True for a word, such as “auto”, that Ray itself looks up."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return True
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError:
        return False
    return True


def _runtime_env() -> dict:
    """What a Ray worker needs beside the installed packages: this program's, and the settings that it heeds."""
    import gallery
    import lsd
    import precompute

    settings = {name: value for name, value in os.environ.items() if name.startswith("LSD_")}
    if folders := settings.get("LSD_MODEL_PATH"):  # a worker is started in another folder
        settings["LSD_MODEL_PATH"] = os.pathsep.join(os.path.abspath(f) for f in folders.split(os.pathsep) if f)
    packages = [str(Path(package.__file__).parent) for package in (lsd, gallery, precompute)]
    return {
        "py_modules": packages, "excludes": ["**/__pycache__", "**/sample"],
        "env_vars": {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")} | settings,
    }  # fmt: skip


def _shares(nodes: Sequence[dict[str, float]]) -> tuple[dict[str, float], int]:
    """(what a task asks for, how many tasks that makes at once), from the resources of each node."""
    devices = sum(int(node.get("GPU", 0)) for node in nodes)
    if devices:
        return {"num_gpus": 1, "num_cpus": 1}, devices
    cores = [int(node.get("CPU", 0)) for node in nodes]
    share = max(1, min(int(os.environ.get("OMP_NUM_THREADS", 2)), max(cores, default=1)))  # so that a node can take it
    return {"num_cpus": share}, max(1, sum(count // share for count in cores))


def _run_on_ray(values: dict, url: str, again: bool, cores: int, on_gpu: bool) -> Outcome:
    import torch

    keep_freed_memory()
    task = Task.from_dict(values)
    if not on_gpu:
        torch.set_num_threads(cores)
    elif reason := _device_failure():
        return _at_this_node(Outcome(task.hash, 0, ((task.title, reason),), fault=DEVICE))
    return _at_this_node(run_task(task, url, again))


def _device_failure() -> str:
    """Why this process's GPU can do nothing, "" if it can: that is known at once, and no other device takes its place."""
    import torch

    try:
        torch.zeros(1, device="cuda").item()
    except Exception as error:  # torch without CUDA, no driver, no device, one that gave up
        return one_sentence(error)
    return ""


def _at_this_node(outcome: Outcome) -> Outcome:
    if not outcome.fault:
        return outcome
    import ray

    return replace(outcome, place=ray.get_runtime_context().get_node_id())
