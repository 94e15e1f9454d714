"""The engine “ray” on two nodes of this machine, which the tests start and stop: the same rows, also if a node is lost.

A node is a raylet with one core. Drivers are processes started in another folder than the code, so that the workers have
only what the run sends them.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.precompute_kill import TINY, group_is_gone, look, rows_of

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
    "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
}  # fmt: skip


class Node:
    """A raylet with one core, in a session of its own, by which all its processes are found again."""

    def __init__(self, folder: Path, *arguments: str):
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--num-gpus=0", f"--temp-dir={folder}",
            "--object-store-memory=80000000", *arguments,
        ]  # fmt: skip
        log = folder / "start.log"
        with log.open("w") as out:
            starting = subprocess.Popen(
                command, env=ENVIRONMENT, cwd=folder, start_new_session=True, stdout=out, stderr=out
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


class Cluster:
    """A head and one more node."""

    def __init__(self, folder: Path):
        self.folder, self.nodes, self.address = folder, [], ""

    def start(self) -> None:
        """The head, and the other."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.add("--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false")
        self.address = f"127.0.0.1:{port}"
        self.add(f"--address={self.address}")

    def add(self, *arguments: str) -> None:
        """One more node."""
        self.nodes.append(Node(self.folder, *arguments))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets have short names
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        for node in made.nodes:
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def command(folder: Path, units: str, steps: int, *arguments: str) -> list[str]:
    return [
        sys.executable, "-c", MAIN, "run", "--models", "demo:resnet", "--units", units, "--steps", str(steps), "--output",
        str(folder), *arguments,
    ]  # fmt: skip


def start(cluster: Cluster, folder: Path, units: str, steps: int, *arguments: str) -> subprocess.Popen:
    """A run on the cluster, from a folder without the code."""
    arguments = command(folder, units, steps, "--engine", "ray", "--address", cluster.address, *arguments)
    return subprocess.Popen(
        arguments, env=ENVIRONMENT, cwd=cluster.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def at_work(node: Node) -> bool:
    """Whether a task is under way on a node."""
    return "ray::_run_on_ray" in node.listed("args")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The folder of an undisturbed run of this machine alone."""
    folder = tmp_path_factory.mktemp("local")
    subprocess.run(command(folder, "class:all", 20), env=ENVIRONMENT, cwd=folder, check=True, capture_output=True)
    return folder


def test_a_folder_that_workers_cannot_use_is_a_sentence(cluster, tmp_path):
    """The driver may write the plan, but the workers no shard: the data folder is a file."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "data").write_text("a file")
    run = start(cluster, folder, "class:0", 1)
    _, error = run.communicate(timeout=300)
    assert run.returncode == 2 and "Traceback" not in error, error
    assert re.search(r"precompute: .*run cannot be used \(.*\): mend that, and run the same command", error), error


def test_two_nodes_share_the_tasks_and_a_lost_ones_move_on(cluster, undisturbed, tmp_path):
    folder, expected = tmp_path / "run", rows_of(undisturbed)
    marker = next((undisturbed / "done").iterdir())
    for name in (f"done/{marker.name}", json.loads(marker.read_text())["shard"]):  # one task is done already
        (folder / name).parent.mkdir(parents=True)
        shutil.copy2(undisturbed / name, folder / name)
    run = start(cluster, folder, "class:all", 20)
    busy = [False, False]
    deadline = time.monotonic() + 300
    while run.poll() is None and not all(busy) and time.monotonic() < deadline:
        busy = [was or at_work(node) for was, node in zip(busy, cluster.nodes, strict=True)]
        time.sleep(0.02)
    assert all(busy), "a node was never given a task"
    cluster.nodes[1].kill()  # with a task under way, or just between two
    out, error = run.communicate(timeout=300)
    assert run.returncode == 0, error
    assert f"16 rows, {16 - TINY} of them made" in out and "failed: " not in error
    look(folder, {}, 2)
    assert rows_of(folder) == expected
