"""A page in a process of its own that writes down what it says and which files it opens, and somebody who talks to it over HTTP."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.app_start import free_port

ROOT = Path(__file__).parents[2]
PREFIX = "gradio_api"

# The page as `python app.py` runs it. Whatever it opens below the folder of secrets is written down by the interpreter itself.
_WATCHED = """
import os, runpy, sys
secrets, opened = os.environ["LSD_HOSTILE_SECRETS"], os.open(os.environ["LSD_HOSTILE_OPENED"], os.O_WRONLY | os.O_APPEND)
def look(event, arguments):
    if event == "open" and str(arguments[0]).startswith(secrets):
        os.write(opened, f"{arguments[0]}\\n".encode())
sys.addaudithook(look)
sys.path.insert(0, os.getcwd())
runpy.run_path("app.py", run_name="__main__")
"""

_UNHANDLED = (
    "Traceback (most recent call last)",
    "unexpected error",
    "Exception in ASGI application",
    "Segmentation fault",
)


class Server:
    """The running page.

    Attributes:
        url: its address.
        secrets: a folder of files that it offers to nobody.
    """

    def __init__(self, url: str, process: subprocess.Popen, log: Path, secrets: Path, opened: Path):
        self.url, self._process, self.log, self.secrets, self._opened = url, process, log, secrets, opened

    @property
    def unhandled(self) -> list[str]:
        """The log's lines with which an error begins that nobody has made a sentence of."""
        return [
            line for line in self.log.read_text("utf-8", "replace").splitlines() if any(u in line for u in _UNHANDLED)
        ]

    @property
    def opened(self) -> list[str]:
        """The secrets that it has opened."""
        return self._opened.read_text("utf-8").splitlines()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def rss(self) -> int:
        """Bytes of memory that it holds (Linux)."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise SystemExit("The page has ended.")


@contextmanager
def served(folder: Path, **environment: str) -> Iterator[Server]:
    """The page for strangers, once it answers.

    Args:
        folder: where its log and the secrets are put.
        environment: beside `LSD_PUBLIC=1`, and no limit of requests a minute, which all come from one address.
    """
    secrets, opened, port = folder / "secrets", folder / "opened.txt", free_port()
    secrets.mkdir()
    (secrets / "secret.txt").write_text(SECRET)
    opened.touch()
    own = {
        "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "LSD_PUBLIC": "1", "LSD_REQUESTS_A_MINUTE": "0", "LSD_HOSTILE_SECRETS": str(secrets), "LSD_HOSTILE_OPENED": str(opened),
    }  # fmt: skip
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", _WATCHED], cwd=ROOT, env=os.environ | own | environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    server = Server(url, process, folder / "log.txt", secrets, opened)
    try:
        _wait(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


SECRET = "nobody is offered this"


def _wait(server: Server) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{server.url}/{PREFIX}/app_id", timeout=5)
            return
        except httpx.HTTPError:
            if not server.is_alive:
                break
            time.sleep(0.2)
    raise SystemExit(f"The page did not start: {server.log.read_text()[-2000:]}")


class Visitor:
    """Somebody with a session, who may send anything."""

    def __init__(self, url: str, timeout: float = 180):
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=timeout, follow_redirects=True)
        self.session = uuid.uuid4().hex
        config = self.http.get("/config").json()
        self.components = {c["id"]: c for c in config["components"]}
        self.events = config["dependencies"]

    def values(self, event: dict) -> list:
        """What the page says at first."""
        return [self.components[i].get("props", {}).get("value") for i in event["inputs"]]

    def upload(self, name: str, data: bytes) -> str | None:
        """The path that the page gives an uploaded file; None where it takes none."""
        answer = self.http.post(f"/{PREFIX}/upload", files={"files": (name, data)})
        return answer.json()[0] if answer.status_code == 200 else None

    def send(self, event: dict, values: Sequence[Any], data: Any = None) -> str:
        """One event to its end: the last message, as text."""
        body = {
            "data": list(values),
            "fn_index": event["id"],
            "session_hash": self.session,
            "event_data": data,
            "trigger_id": None,
        }
        text = json.dumps(body).encode("utf-8", "surrogatepass")
        head = {"Content-Type": "application/json"}
        if event["queue"] is False:
            return self.http.post(f"/{PREFIX}/run/predict", content=text, headers=head).text
        asked = self.http.post(f"/{PREFIX}/queue/join", content=text, headers=head)
        if asked.status_code != 200:
            return asked.text
        last, mine = "", asked.json()["event_id"]
        with self.http.stream("GET", f"/{PREFIX}/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    if message.get("event_id", mine) != mine:  # of an earlier one that nobody has listened to
                        continue
                    if message["msg"] in ("process_generating", "process_completed"):
                        last = line if message.get("output") else last
                    if message["msg"] in ("process_completed", "close_stream"):
                        return line if message.get("output") else last
        return last


def file_data(path: str, **more: Any) -> dict:
    """A file as clients name it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}} | more
