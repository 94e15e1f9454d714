"""The engine “ray” on nodes of this machine, which the tests start and stop: the same rows, whatever happens to the nodes.

A node is a raylet with one core. Drivers are processes started in another folder than the code, so that the workers have
only what the run sends them.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.precompute_kill import TINY, group_is_gone, look, rows_of
from precompute import plan as planning
from precompute.run import run
from precompute.settings import read

pytest.importorskip("ray", reason="the engine “ray” is not tested: there is no Ray; pip install ray")
pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
MAIN = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); import precompute.plan; precompute.plan.UNITS = {TINY}; "
    "from precompute.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
ENVIRONMENT = {
    key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST", "PYTHONPATH"))
} | {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_period_ms": "300", "RAY_health_check_failure_threshold": "3", "RAY_health_check_timeout_ms": "500",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
}  # fmt: skip

# On a node with this in its path the device is dead: whoever is to make pictures fails, which a file is told.
DEAD_DEVICE = """
import importlib.util, sys

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name != "precompute.work":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def patched(module):
            load(module)
            module.make_rows = fails

        spec.loader.exec_module = patched
        return spec

def fails(task):
    with open(LOG, "a") as file:
        file.write(task.hash + "\\n")
    raise RuntimeError("CUDA error: unspecified launch failure")

sys.meta_path.insert(0, Hook())
"""


class Node:
    """A raylet with one core, in a session of its own, by which all its processes are found again."""

    def __init__(self, folder: Path, *arguments: str, environment: Mapping[str, str] = ENVIRONMENT):
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--num-gpus=0", f"--temp-dir={folder}",
            "--object-store-memory=80000000", *arguments,
        ]  # fmt: skip
        log = folder / "start.log"
        with log.open("w") as out:
            starting = subprocess.Popen(
                command, env=environment, cwd=folder, start_new_session=True, stdout=out, stderr=out
            )
            self.session = starting.pid  # of the raylet as well, which outlives the command that starts it
            starting.wait(180)
        if starting.returncode:
            self.kill()
            pytest.fail(f"no Ray node came up: {log.read_text()[-2000:]}")

    def listed(self, what: str) -> str:
        """A column of ps, of all its processes."""
        return subprocess.run(["ps", "-o", f"{what}=", "-s", str(self.session)], capture_output=True, text=True).stdout

    def kill(self) -> None:
        """At once, with everything that runs on it."""
        for number in map(int, self.listed("pid").split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        assert group_is_gone(self.session, 30)

    def hesitate(self) -> None:
        """Whatever works on it stands still four fifths of the time, until it is killed."""

        def stutter() -> None:
            while numbers := self.listed("pid,args").splitlines():
                workers = [int(line.split()[0]) for line in numbers if "ray::" in line]
                for sign, seconds in ((signal.SIGSTOP, 0.4), (signal.SIGCONT, 0.1)):
                    for number in workers:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(number, sign)
                    time.sleep(seconds)

        threading.Thread(target=stutter, daemon=True).start()


class Cluster:
    """A head, and more nodes."""

    def __init__(self, folder: Path):
        self.folder, self.nodes, self.address = folder, [], ""

    def start(self, others: int = 1) -> None:
        """The head, and so many others."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.add("--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false")
        self.address = f"127.0.0.1:{port}"
        for _ in range(others):
            self.join()

    def join(self, environment: Mapping[str, str] = ENVIRONMENT) -> Node:
        """One more node."""
        return self.add(f"--address={self.address}", environment=environment)

    def add(self, *arguments: str, environment: Mapping[str, str] = ENVIRONMENT) -> Node:
        self.nodes.append(Node(self.folder, *arguments, environment=environment))
        return self.nodes[-1]

    def kill(self) -> None:
        """All of it."""
        for node in self.nodes:
            node.kill()


@contextlib.contextmanager
def clusters() -> Iterator[Callable[[], Cluster]]:
    """Makes clusters, which are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets have short names
    made = []

    def make(others: int) -> Cluster:
        (folder / str(len(made))).mkdir()
        made.append(Cluster(folder / str(len(made))))
        made[-1].start(others)
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters() as make:
        yield make(2)


def start(cluster: Cluster, folder: Path, units: str, steps: int, *arguments: str) -> subprocess.Popen:
    """A run on the cluster, from a folder without the code."""
    command = [
        sys.executable, "-c", MAIN, "run", "--models", "demo:resnet", "--units", units, "--steps", str(steps), "--output",
        str(folder), "--engine", "ray", "--address", cluster.address, *arguments,
    ]  # fmt: skip
    return subprocess.Popen(
        command, env=ENVIRONMENT, cwd=cluster.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def at_work(node: Node) -> bool:
    """Whether a task is under way on a node."""
    return "ray::_run_on_ray" in node.listed("args")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The folder of an undisturbed run of this process alone."""
    folder = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "UNITS", TINY)
        plan = planning.make_plan(read({"models": ["demo:resnet"], "units": ["class:all"], "steps": 20}))
    assert not run(plan, str(folder)).failures
    return folder


def test_a_folder_that_workers_cannot_use_is_a_sentence(cluster, tmp_path):
    """The driver may write the plan, but the workers no shard: the data folder is a file."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "data").write_text("a file")
    driver = start(cluster, folder, "class:0", 1)
    _, error = driver.communicate(timeout=300)
    assert driver.returncode == 2 and "Traceback" not in error, error
    assert re.search(r"precompute: .*run cannot be used \(.*\): mend that, and run the same command", error), error


def wait_until(true: Callable[[], bool], driver: subprocess.Popen) -> None:
    """While a run goes on."""
    deadline = time.monotonic() + 300
    while driver.poll() is None and not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert driver.poll() is None, driver.communicate()[1]
    assert true()


def test_a_node_whose_device_is_dead_gets_no_more_work_and_a_lost_head_is_survived(cluster, undisturbed, tmp_path):
    folder, expected, log = tmp_path / "run", rows_of(undisturbed), tmp_path / "log"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DEAD_DEVICE.replace("LOG", repr(str(log))))
    done = lambda: len(list((folder / "done").glob("*.json")))  # noqa: E731
    with clusters() as make:
        broken = make(0)
        broken.join(ENVIRONMENT | {"PYTHONPATH": str(tmp_path / "site")})
        driver = start(broken, folder, "class:all", 20, "--workers", "2")
        wait_until(lambda: log.exists() and done() > 1, driver)
        broken.nodes[0].kill()  # the head
        _, error = driver.communicate(timeout=120)
        assert driver.returncode != 0 and done() < 16 // TINY
        finished, _ = look(folder, {}, 2)
        assert len(log.read_text().splitlines()) == 1  # it was given one task, and no other
    driver = start(cluster, folder, "class:all", 20, "--workers", "1")
    out, error = driver.communicate(timeout=300)
    assert driver.returncode == 0 and f"16 rows, {16 - TINY * len(finished)} of them made" in out, error
    look(folder, finished, 1)
    assert rows_of(folder) == expected


def test_three_nodes_share_the_tasks_one_is_slow_and_what_two_lost_ones_had_moves_on(cluster, undisturbed, tmp_path):
    folder, expected, chance = tmp_path / "run", rows_of(undisturbed), random.Random(0)
    marker = next((undisturbed / "done").iterdir())
    for name in (f"done/{marker.name}", json.loads(marker.read_text())["shard"]):  # one task is done already
        (folder / name).parent.mkdir(parents=True)
        shutil.copy2(undisturbed / name, folder / name)
    driver, busy = start(cluster, folder, "class:all", 20), [False] * 3

    def all_busy() -> bool:
        busy[:] = [was or at_work(node) for was, node in zip(busy, cluster.nodes, strict=True)]
        return all(busy)

    wait_until(all_busy, driver)
    cluster.nodes[0].hesitate()
    for node in cluster.nodes[1:]:
        time.sleep(chance.uniform(0, 1))
        node.kill()  # with a task under way, or just between two
    out, error = driver.communicate(timeout=300)
    assert driver.returncode == 0, error
    assert f"16 rows, {16 - TINY} of them made" in out and "failed: " not in error
    assert "16/16" in error.replace("\r", "\n")  # progress, of all nodes together
    look(folder, {}, 3)
    assert rows_of(folder) == expected
