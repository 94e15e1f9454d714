"""Where tasks run: in processes of this machine, with and without losses, and what Ray is asked for."""

import contextlib
import multiprocessing
import os
import queue
import signal
import socket
import sys
import threading
import time
import types
from functools import partial
from pathlib import Path

import pytest
import torch

from lsd.errors import LSDError
from lsd.faults import DEVICE, NETWORK
from precompute import engines, work
from precompute import plan as planning
from precompute import run as running
from precompute.run import run
from precompute.storage import StorageError


@pytest.fixture
def quick_pools(monkeypatch):
    """Pools whose workers are forked from a process that has everything imported, and two units a task."""
    monkeypatch.setattr(engines, "get_context", lambda method: multiprocessing.get_context("forkserver"))
    monkeypatch.setattr(planning, "UNITS", 2)


# What the workers do in place of `run_task`; they find these functions by name.


def deadly(task, url, again):
    """Class 0 kills its worker, always."""
    if "class/0" in task.units:
        os.kill(os.getpid(), signal.SIGKILL)
    return work.run_task(task, url, again)


def deadly_once(task, url, again):
    """Each task kills its worker the first time."""
    seen = Path(url) / f"{task.hash}.seen"
    if not seen.exists():
        seen.touch()
        (seen.parent / f".half.parquet.{socket.gethostname()}.{os.getpid()}.0a.tmp").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return work.run_task(task, url, again)


def full(task, url, again):
    """Class 0 finds no room; whoever is beside it would be at work for long."""
    if "class/0" not in task.units:
        time.sleep(600)
    raise StorageError("There is no room left.")


def dead_place(task, url, again):
    """The device of the worker at place 0 is dead, and so is its process from then on."""
    (Path(url) / f"{task.hash}.{engines._place}.{os.getpid()}").touch()
    if engines._place == "0":
        return work.Outcome(task.hash, 0, ((task.title, "CUDA error"),), fault=DEVICE)
    return work.run_task(task, url, again)


def worn_once(task, url, again):
    """The first process to do anything has a device that fails, and works no more."""
    first = Path(url) / "first"
    with contextlib.suppress(FileExistsError), open(first, "x") as file:
        file.write(str(os.getpid()))
    if first.read_text() == str(os.getpid()):
        return work.Outcome(task.hash, 0, ((task.title, "CUDA error"),), fault=DEVICE)
    return work.run_task(task, url, again)


def unreachable(task, url, again):
    """The network is gone, for good."""
    return work.Outcome(task.hash, 0, ((task.title, "no route"),), fault=NETWORK)


def count_threads(task, url, again):
    """Says how many threads it has."""
    return work.Outcome(task.hash, torch.get_num_threads())


def test_several_processes_make_the_same_rows_as_one(plan_of, tmp_path, quick_pools, rows_in):
    plan = plan_of("class:0-7", "layer3:channels:2")
    one, two = (run(plan, str(tmp_path / str(n)), workers=n) for n in (1, 2))
    assert one.pictures == two.pictures == 10 and not two.failures and two.reused == 0
    assert rows_in(tmp_path / "1") == rows_in(tmp_path / "2")


def test_a_task_that_kills_its_worker_is_given_up_and_its_neighbours_are_not(
    plan_of, tmp_path, quick_pools, monkeypatch
):
    plan = plan_of("class:0-7")
    monkeypatch.setattr(engines, "run_task", deadly)
    outcomes = list(engines.in_processes(plan.tasks, str(tmp_path), 2))
    assert {outcome.task for outcome in outcomes} == {task.hash for task in plan.tasks} and len(outcomes) == 4
    ((what, sentence),) = [failure for outcome in outcomes for failure in outcome.failures]
    assert what == "demo:resnet, class/0 to class/1, lsd" and "died 3 times; is there enough memory?" in sentence
    assert sum(outcome.pictures for outcome in outcomes) == 6


def test_tasks_whose_workers_are_killed_once_or_twice_are_made_all_the_same(
    plan_of, tmp_path, quick_pools, monkeypatch
):
    plan = plan_of("class:0-5")
    monkeypatch.setattr(engines, "run_task", deadly_once)
    outcomes = list(engines.in_processes(plan.tasks, str(tmp_path), 2))
    assert sum(outcome.pictures for outcome in outcomes) == 6 and not any(outcome.failures for outcome in outcomes)


def test_a_worker_whose_device_died_is_given_no_more_work(plan_of, tmp_path, quick_pools, monkeypatch):
    plan = plan_of("class:0-7", "layer3:channels:8")
    monkeypatch.setattr(engines, "run_task", dead_place)
    outcomes = list(engines.in_processes(plan.tasks, str(tmp_path), 2))
    assert sum(outcome.pictures for outcome in outcomes) == 16 and not any(outcome.fault for outcome in outcomes)
    assert len(list(tmp_path.glob("*.0.*"))) == 1


def test_where_the_only_device_failed_a_new_process_goes_on(plan_of, tmp_path, quick_pools, monkeypatch):
    monkeypatch.setattr(engines, "run_task", worn_once)
    outcomes = list(engines.in_processes(plan_of("class:0-3").tasks, str(tmp_path), 1))
    assert sum(outcome.pictures for outcome in outcomes) == 4 and not any(outcome.fault for outcome in outcomes)


def test_a_task_whose_machine_fails_every_time_is_told(plan_of, tmp_path, quick_pools, monkeypatch):
    monkeypatch.setattr(engines, "run_task", unreachable)
    tasks = plan_of("class:0-3").tasks
    outcomes = list(engines.in_processes(tasks, str(tmp_path), 2))
    assert {outcome.task for outcome in outcomes} == {task.hash for task in tasks} and len(outcomes) == 2
    assert {outcome.fault for outcome in outcomes} == {NETWORK}


def test_what_a_killed_worker_had_begun_to_write_is_removed(plan_of, tmp_path, quick_pools, monkeypatch):
    monkeypatch.setattr(engines, "run_task", deadly_once)
    assert run(plan_of("class:0-3"), str(tmp_path), workers=2).pictures == 4
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_used_ends_the_run_at_once(plan_of, tmp_path, quick_pools, monkeypatch):
    monkeypatch.setattr(engines, "run_task", full)
    with pytest.raises(StorageError, match="There is no room left"):
        list(engines.in_processes(plan_of("class:0-3").tasks, str(tmp_path), 2))
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]


def test_workers_share_the_cores(plan_of, tmp_path, quick_pools, monkeypatch):
    monkeypatch.setattr(engines, "run_task", count_threads)
    outcomes = list(engines.in_processes(plan_of("class:0-3").tasks, str(tmp_path), 2))
    assert {outcome.pictures for outcome in outcomes} <= set(range(1, max(1, (os.cpu_count() or 1) // 2) + 1))


@pytest.mark.parametrize("place, gpu", [(0, 0), (1, 1), (2, 0)])
def test_workers_take_turns_with_the_gpus(monkeypatch, place, gpu):
    """And share their memory, each finding out what fits into its own part."""
    chosen, started, parts = [], [], []
    turns = queue.Queue()
    turns.put(place)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", parts.append)
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self))
    handler = signal.getsignal(signal.SIGINT)
    engines._enter_worker(turns, None, 3)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # the run decides what an interrupted terminal means
    signal.signal(signal.SIGINT, handler)
    assert chosen == [gpu] and len(started) == 1 and parts == [0.5]  # three workers, so up to two a GPU


@pytest.mark.parametrize("gpus, workers, tasks, expected", [
    (0, None, 4, "in_process"),
    (1, None, 4, ("in_processes", 2)),
    (1, None, 1, "in_process"),
    (4, None, 8, ("in_processes", 8)),
    (4, None, 3, ("in_processes", 3)),
    (0, 3, 8, ("in_processes", 3)),
    (4, 1, 8, "in_process"),
])  # fmt: skip
def test_there_are_two_workers_a_gpu_unless_told_otherwise(monkeypatch, gpus, workers, tasks, expected):
    monkeypatch.setattr(engines, "gpus", lambda: gpus)
    monkeypatch.setattr(engines, "in_process", lambda *arguments: "in_process")
    monkeypatch.setattr(engines, "in_processes", lambda tasks, url, workers, again: ("in_processes", workers))
    assert running._outcomes([object()] * tasks, "url", "local", None, workers, False) == expected
    assert running._outcomes([], "url", "ray", None, None, False) == ()


def test_ray_is_asked_for_gpus_where_there_are_any(monkeypatch):
    nodes = [{"GPU": 4.0, "CPU": 64.0}, {"CPU": 8.0}, {"GPU": 1.0, "CPU": 4.0}]
    assert engines._shares(nodes) == ({"num_gpus": 1, "num_cpus": 1}, 5)


@pytest.mark.parametrize("threads, cores, share, at_once", [
    ("2", [8, 8], 2, 8),
    (None, [8], 2, 4),
    ("4", [8, 2], 4, 2),
    ("2", [1, 1], 1, 2),  # two nodes of one core have two cores, and yet no node has two
    ("8", [], 1, 1),
    ("1", [0], 1, 1),
])  # fmt: skip
def test_ray_is_asked_for_no_more_cores_than_a_node_has(monkeypatch, threads, cores, share, at_once):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert engines._shares([{"CPU": float(count)} for count in cores]) == ({"num_cpus": share}, at_once)


def test_rays_workers_get_the_code_and_the_settings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSD_MODEL_PATH", os.pathsep.join(["models", "", "/elsewhere"]))
    monkeypatch.setenv("LSD_MAX_MODEL_BYTES", "123")
    monkeypatch.setenv("HF_TOKEN", "secret")
    environment = engines._runtime_env()
    assert [Path(package).name for package in environment["py_modules"]] == ["lsd", "gallery", "precompute"]
    assert all((Path(package) / "__init__.py").is_file() for package in environment["py_modules"])
    variables = environment["env_vars"]
    assert variables["LSD_MODEL_PATH"] == os.pathsep.join([str(tmp_path / "models"), "/elsewhere"])
    assert variables["LSD_MAX_MODEL_BYTES"] == "123" and variables["OMP_WAIT_POLICY"] and "HF_TOKEN" not in variables


class FakeRay(types.ModuleType):
    """Ray as far as the engine knows it, without its processes: what it is told, and whatever it shall answer."""

    def __init__(self, answer=None, refuse=None):
        super().__init__("ray")
        self.answer, self.refuse, self.told, self.calls, self.most = answer, refuse, {}, [], 0
        self.ids, self.selected = ["a"], []
        self.exceptions = types.SimpleNamespace()
        self.exceptions.RayError = type("RayError", (Exception,), {})
        for name in ("RayTaskError", "RuntimeEnvSetupError", "NodeDiedError"):
            setattr(self.exceptions, name, type(name, (self.exceptions.RayError,), {}))

    def init(self, **settings):
        self.told |= settings
        if self.refuse:
            raise self.refuse

    def nodes(self):
        here = [{"Alive": True, "NodeID": name, "Resources": {"CPU": 2.0}} for name in self.ids]
        return [*here, {"Alive": False, "NodeID": "gone", "Resources": {"CPU": 64.0}}]

    def remote(self, **needs):
        self.told |= needs
        options = lambda label_selector: types.SimpleNamespace(remote=partial(self.submit, selector=label_selector))  # noqa: E731
        return lambda function: types.SimpleNamespace(remote=self.submit, options=options)

    def submit(self, *arguments, selector=None):
        self.selected.append(selector)
        self.calls.append(arguments)
        return len(self.calls) - 1  # what refers to the result

    def wait(self, references, num_returns):
        self.most = max(self.most, len(references))
        return references[:1], references[1:]

    def get(self, reference):
        return self.answer(reference)

    def shutdown(self):
        self.told["shut"] = True


@pytest.fixture
def fake_ray(monkeypatch):
    def make(answer=None, refuse=None):
        ray = FakeRay(answer, refuse)
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(engines, "_answers", lambda address: True)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        return ray

    return make


@pytest.mark.parametrize("workers, most", [(None, 4), (1, 1), (3, 3)])
def test_ray_is_given_a_few_tasks_ahead_and_no_more_than_was_asked_for(plan_of, fake_ray, monkeypatch, workers, most):
    monkeypatch.setattr(planning, "UNITS", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    tasks = plan_of("class:0-5").tasks
    ray = fake_ray(lambda reference: work.Outcome(tasks[reference].hash, 1))
    outcomes = list(engines.on_ray(tasks, "s3://bucket/run", "there:6379", workers))
    assert [outcome.task for outcome in outcomes] == [task.hash for task in tasks] and ray.most == most
    assert ray.told["address"] == "there:6379" and ray.told["num_cpus"] == 2 and ray.told["max_retries"] == 2
    assert ray.told["shut"] and ray.calls[0] == (tasks[0].to_dict(), "s3://bucket/run", False, 2, False)


def test_a_task_that_ray_lost_is_told_and_the_others_go_on(plan_of, fake_ray, monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 1)
    tasks = plan_of("class:0-2").tasks

    def answer(reference):
        if reference == 1:
            raise ray.exceptions.NodeDiedError
        return work.Outcome(tasks[reference].hash, 1)

    ray = fake_ray(answer)
    outcomes = list(engines.on_ray(tasks, "url"))
    assert [len(outcome.failures) for outcome in outcomes] == [0, 1, 0] and ray.told["address"] == "local"
    assert outcomes[1].task == tasks[1].hash and outcomes[1].pictures == 0


def test_what_stops_a_task_on_ray_stops_the_run_with_its_own_sentence(plan_of, fake_ray):
    def answer(reference):
        error = ray.exceptions.RayTaskError("a traceback of many lines")
        error.cause = StorageError("There is no room left.")
        raise error

    ray = fake_ray(answer)
    with pytest.raises(StorageError, match=r"^There is no room left\.$"):
        list(engines.on_ray(plan_of("class:0").tasks, "url"))
    assert ray.told["shut"]


def test_a_task_whose_node_failed_is_tried_elsewhere_and_a_dead_device_gets_no_more(plan_of, fake_ray, monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 1)
    tasks = {task.hash: task for task in plan_of("class:0-3").tasks}
    called = []

    def answer(reference):
        task = ray.calls[reference][0]
        name = work.Task.from_dict(task).hash
        called.append((list(tasks).index(name), ray.selected[reference]))
        if called[-1] == (0, None):
            return work.Outcome(name, 0, ((name, "CUDA error"),), fault=DEVICE, place="a")
        if called[-1][0] == 2 and "b" not in str(ray.selected[reference]):
            return work.Outcome(name, 0, ((name, "no route"),), fault=NETWORK, place="b")
        return work.Outcome(name, 1)

    ray = fake_ray(answer)
    ray.ids = ["a", "b", "c"]
    outcomes = list(engines.on_ray(list(tasks.values()), "url", workers=1))
    assert sum(outcome.pictures for outcome in outcomes) == 4 and len(outcomes) == 4
    no, nor = ({"ray.io/node-id": f"!in({names})"} for names in ("a", "a,b"))
    assert called == [(0, None), (1, no), (2, no), (3, no), (0, no), (2, nor)]


def test_a_node_hands_back_what_it_was_given_before_its_device_failed(plan_of, fake_ray, monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 1)
    tasks, slept = plan_of("class:0-5").tasks, []
    monkeypatch.setattr(engines, "_PAUSES", (7, 7))
    monkeypatch.setattr(time, "sleep", slept.append)

    def answer(reference):
        name = work.Task.from_dict(ray.calls[reference][0]).hash
        if ray.selected[reference] is None:
            return work.Outcome(name, 0, ((name, "CUDA error"),), fault=DEVICE, place="a")
        return work.Outcome(name, 1)

    ray = fake_ray(answer)
    ray.ids = ["a", "b"]
    outcomes = list(engines.on_ray(tasks, "url", workers=4))
    assert sum(outcome.pictures for outcome in outcomes) == 6 and slept == [7]
    assert [selector is None for selector in ray.selected] == [True] * 4 + [False] * 6


def test_a_task_for_a_gpu_that_is_dead_is_not_done_by_the_processor(plan_of, tmp_path, monkeypatch):
    (task,) = plan_of("class:0").tasks
    context = types.SimpleNamespace(get_runtime_context=lambda: types.SimpleNamespace(get_node_id=lambda: "here"))
    monkeypatch.setitem(sys.modules, "ray", context)
    monkeypatch.setattr(
        torch, "zeros", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("No CUDA GPUs are available"))
    )
    outcome = engines._run_on_ray(task.to_dict(), str(tmp_path), False, 1, True)
    assert (outcome.pictures, outcome.fault, outcome.place) == (0, DEVICE, "here") and not list(tmp_path.iterdir())
    assert outcome.failures == ((task.title, "RuntimeError: No CUDA GPUs are available"),)


def test_a_cluster_that_grows_is_given_more(plan_of, fake_ray, monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    tasks = plan_of("class:0-9", "layer3:channels:10").tasks

    def answer(reference):
        ray.ids = ["a", "b", "c"]
        return work.Outcome(tasks[reference].hash, 1)

    ray = fake_ray(answer)
    assert len(list(engines.on_ray(tasks, "url"))) == 20 and ray.most == 3 * engines._AHEAD


def test_nodes_that_cannot_take_the_code_are_told(plan_of, fake_ray):
    def answer(reference):
        raise ray.exceptions.RuntimeEnvSetupError

    ray = fake_ray(answer)
    with pytest.raises(LSDError, match="cannot take over this program's code"):
        list(engines.on_ray(plan_of("class:0").tasks, "url"))


@pytest.mark.parametrize("address, variable, words", [
    ("there:6379", None, "There is no Ray cluster at there:6379; start one with ray start --head"),
    (None, "other:6379", "There is no Ray cluster at other:6379"),
    (None, None, "Ray cannot be started here: ConnectionError: refused"),
])  # fmt: skip
def test_a_cluster_that_is_not_there_is_a_sentence(plan_of, fake_ray, monkeypatch, address, variable, words):
    fake_ray(refuse=ConnectionError("refused"))
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    with pytest.raises(LSDError, match=words):
        list(engines.on_ray(plan_of("class:0").tasks, "url", address))


def test_it_is_seen_at_once_whether_anybody_listens_at_an_address(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"127.0.0.1:{server.getsockname()[1]}"
        heard = []
        monkeypatch.setattr(socket.socket, "connect", lambda self, address: heard.append(address))
        assert engines._answers(here) and engines._answers(f"ray://{here}") and len(heard) == 2
    assert engines._answers("auto") and engines._answers("local") and len(heard) == 2
    monkeypatch.setattr(socket.socket, "connect", _refused)
    assert not engines._answers(here)


def _refused(self, address):
    raise ConnectionRefusedError


def test_where_nobody_listens_ray_is_not_even_asked(plan_of, fake_ray, monkeypatch):
    ray = fake_ray()
    monkeypatch.setattr(engines, "_answers", lambda address: False)
    with pytest.raises(LSDError, match="There is no Ray cluster at there:6379; start one with"):
        list(engines.on_ray(plan_of("class:0").tasks, "url", "there:6379"))
    assert not ray.told


def test_without_ray_it_is_said_how_to_get_it(plan_of, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LSDError, match=r'needs Ray; install it with pip install "ray>=2.50"'):
        run(plan_of("class:0"), str(tmp_path), engine="ray")


def test_a_task_on_ray_does_what_it_does_here(plan_of, tmp_path, rows_in):
    (task,) = plan_of("class:0").tasks
    assert engines._run_on_ray(task.to_dict(), str(tmp_path / "ray"), False, 1, False).pictures == 1
    list(engines.in_process([task], str(tmp_path / "here")))
    assert rows_in(tmp_path / "ray") == rows_in(tmp_path / "here")
