"""What visitors leave on the disk goes, and what the page itself offers stays."""

import asyncio
import errno
import os
import subprocess
import sys

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from lsd.ui.shared import scratch
from lsd.ui.shared.scratch import sweep, sweeping, told_full, zipped


def left(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*")}


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1")


def test_old_files_go_with_their_folders_and_young_ones_stay(tmp_path):
    put(tmp_path, "a/upload.png", "b/example.png")
    sweep(tmp_path, {tmp_path / "b" / "example.png"}, 3600)
    assert left(tmp_path) == {"a", "a/upload.png", "b", "b/example.png"}
    sweep(tmp_path, {tmp_path / "b" / "example.png"}, -1)
    assert left(tmp_path) == {"b", "b/example.png"}


def test_while_a_server_lives_it_deletes_what_came_since(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_EVERY", 0.01)
    monkeypatch.setattr(scratch, "_AGE", -1)
    put(tmp_path, "b/example.png")

    async def live():
        async with sweeping(tmp_path)(None):
            put(tmp_path, "a/upload.png")
            while (tmp_path / "a").exists():
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(live(), 30))
    assert left(tmp_path) == {"b", "b/example.png"}


def test_a_download_is_gone_after_it_is_handed_over():
    with zipped("it.zip", {"a": b"1"}) as path:
        assert path.is_file()
    assert not path.parent.exists()


@pytest.mark.parametrize("chosen", [True, False])
def test_visitors_files_lie_where_nobody_elses_do(tmp_path, chosen):
    code = "from lsd.ui.shared.scratch import visitors_folder; print(visitors_folder(), visitors_folder().is_dir())"
    env = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    env |= {"GRADIO_TEMP_DIR": str(tmp_path)} if chosen else {}
    told = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    ).stdout.split()
    assert told[1] == "True" and (told[0] == str(tmp_path)) == chosen and ("lsd-page-" in told[0]) != chosen


def test_an_upload_that_finds_the_disk_full_is_told_so_and_nothing_else_changes():
    async def full(request):
        raise OSError(errno.ENOSPC, "No space left on device")

    async def gone(request):
        raise FileNotFoundError(errno.ENOENT, "gone")

    app = Starlette(routes=[Route("/full", full), Route("/gone", gone)], exception_handlers={OSError: told_full})
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.get("/full")
    assert answer.status_code == 507 and answer.json() == {
        "detail": "The disk is full here; please try again in a few minutes."
    }
    assert client.get("/gone").status_code == 500
