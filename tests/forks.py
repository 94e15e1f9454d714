"""Programs of Python in processes of their own, forked from one that has imported others' modules: those take seconds each time."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_LATE = 400  # seconds after which a program is taken to hang
_FORKS = """
import gc, importlib, json, os, runpy, sys

for name in sys.argv[1:]:
    importlib.import_module(name)
gc.freeze()  # or each would go through, and so copy, all that was imported when it ends
for line in sys.stdin:
    asked = json.loads(line)
    if not os.fork():
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in enumerate(asked["said"], 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.chdir(asked["folder"])
        os.environ.update(asked["environment"])
        option, what, *sys.argv[1:] = asked["arguments"]
        sys.argv[0] = what
        runpy.run_module(what, run_name="__main__", alter_sys=True) if option == "-m" else exec(what, {"__name__": "__main__"})
        break
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


class Forks:
    """A process that forks one after another, and ends with its own."""

    def __init__(self, process: subprocess.Popen, folder: Path):
        self._process, self._said = process, (folder / "stdout", folder / "stderr")

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        """As `python *arguments` in a folder, with more variables; it begins with -m or -c."""
        asked = {
            "arguments": list(map(str, arguments)), "folder": str(folder), "environment": dict(environment or {}),
            "said": list(map(str, self._said)),
        }  # fmt: skip
        late = threading.Timer(_LATE, self._process.kill)
        late.start()
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        late.cancel()
        assert answer, f"no answer to {arguments}, of the {_LATE} seconds that it may take"
        return subprocess.CompletedProcess(arguments, int(answer), *(path.read_text("utf-8") for path in self._said))


@contextmanager
def forking(
    folder: Path, modules: Sequence[str], *, environment: Mapping[str, str], python: str | Path = sys.executable
) -> Iterator[Forks]:
    """One that has imported the modules, in an environment.

    Args:
        folder: of its own, for what its forks say.
        environment: all of its variables; those that modules read when they are imported are theirs for good.
    """
    command = [str(python), "-c", _FORKS, *modules]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment
    ) as process:
        try:
            yield Forks(process, folder)
        finally:
            process.stdin.close()
