"""Files are there whole or not at all, on a disk and in a bucket."""

import errno
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

import precompute
from gallery.shards import ShardError
from precompute.storage import BusyError, Storage, StorageError, sha256

HOST = socket.gethostname()


@pytest.fixture(params=["disk", "bucket"])
def storage(request, tmp_path) -> Storage:
    return Storage(str(tmp_path / "run") if request.param == "disk" else f"memory://{uuid.uuid4().hex}/run")


@pytest.fixture
def server(monkeypatch) -> Storage:
    """A folder on another machine that is no bucket: what is written there can be seen half-written."""
    monkeypatch.setattr("precompute.storage._BUCKETS", frozenset())
    return Storage(f"memory://{uuid.uuid4().hex}/run")


def everything(storage: Storage) -> list[str]:
    """Names of all files, temporary ones too."""
    return sorted(path.rpartition("/")[2] for path in storage._fs.find(storage._root))


def test_what_was_put_is_got(storage):
    storage.put("data/model/a.parquet", b"one")
    assert storage.get("data/model/a.parquet") == b"one" and storage.size("data/model/a.parquet") == 3
    storage.put("data/model/a.parquet", b"other")
    assert storage.get("data/model/a.parquet") == b"other"
    assert everything(storage) == ["a.parquet"]


def test_what_is_not_there_is_none(storage):
    assert storage.get("a") is None and storage.size("a") is None
    assert storage.names("plans", ".json") == [] and storage.clean() == 0


def test_names_are_sorted_and_leave_out_unfinished_files(storage):
    for name in ("b.json", "a.json", ".c.json", ".d.json.host.1.ab.tmp", "e.txt"):
        storage.put(f"plans/{name}", b"")
    storage.put("plans/deeper/f.json", b"")
    assert storage.names("plans", ".json") == ["plans/a.json", "plans/b.json"]


def test_what_the_check_refuses_leaves_no_trace(storage):
    storage.put("a", b"old")

    def refuse(stored):
        assert stored == b"new"
        raise ShardError("No good.")

    with pytest.raises(ShardError):
        storage.put("a", b"new", refuse)
    assert storage.get("a") == b"old" and everything(storage) == ["a"]


@pytest.mark.parametrize("where", ["disk", "server"])
def test_bytes_that_come_back_changed_are_refused(where, server, tmp_path, monkeypatch):
    storage = Storage(str(tmp_path / "run")) if where == "disk" else server
    monkeypatch.setattr(storage._fs, "cat_file", lambda path: b"other")
    with pytest.raises(StorageError, match=r"came back from .* with other bytes"):
        storage.put("a", b"bytes")
    assert everything(storage) == []


def test_readers_never_see_a_part(tmp_path):
    storage, sizes, stop = Storage(str(tmp_path)), set(), threading.Event()
    storage.put("a", bytes(1_000_000))

    def read():
        while not stop.is_set():
            sizes.add((tmp_path / "a").stat().st_size)
            sizes.add(len(storage.get("a")))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(60):
        storage.put("a", bytes(1_000_000 * (1 + i % 2)))
    stop.set()
    reader.join()
    assert sizes <= {1_000_000, 2_000_000}


def test_bytes_are_forced_onto_the_disk_before_the_name_and_the_name_afterwards(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def forced(handle):
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def renamed(old, new):
        events.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", forced)
    monkeypatch.setattr(os, "replace", renamed)
    Storage(str(tmp_path)).put("a", b"bytes")
    assert events == ["file", "name", "folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(tmp_path, monkeypatch, code):
    storage = Storage(str(tmp_path))
    storage.put("a", b"old")

    def full(handle):
        raise OSError(code, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"There is no room left in .*: make some, and run the same command again"):
        storage.put("a", b"new")
    assert storage.get("a") == b"old" and everything(storage) == ["a"]


def test_a_disk_that_really_fills_up_leaves_what_was_there(tmp_path):
    """The kernel itself refuses the last bytes, here by a limit on the size of files."""
    code = (
        "import resource, sys\n"
        "from precompute.storage import Storage, StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "storage = Storage(sys.argv[1])\n"
        "storage.put('a', bytes(40_000))\n"
        "try:\n"
        "    storage.put('a', bytes(60_000))\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(precompute.__file__).parents[1]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert "There is no room left in" in made.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").stat().st_size == 40_000


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "run").write_text("a file")
    storage = Storage(str(tmp_path / "run"))
    for action in (
        lambda: storage.put("a", b""),
        lambda: storage.get("a"),
        lambda: storage.size("a"),
        lambda: storage.names("a", ""),
    ):
        with pytest.raises(StorageError, match=r"run cannot be used \(.+\): mend that, and run the same"):
            action()


def test_whatever_a_buckets_client_raises_is_a_sentence(monkeypatch):
    class ClientError(Exception):
        pass

    def down(*arguments, **keywords):
        raise ClientError("An error occurred\n(503) SlowDown.")

    monkeypatch.setattr("precompute.storage._BUCKETS", frozenset())  # they ask more
    storage = Storage(f"memory://{uuid.uuid4().hex}")
    storage.put("a", b"old")
    for method in ("pipe_file", "cat_file", "info", "ls", "find"):
        monkeypatch.setattr(storage._fs, method, down)
    for action in (
        lambda: storage.put("a", b"new"),
        lambda: storage.get("a"),
        lambda: storage.size("a"),
        lambda: storage.names("a", ""),
        storage.clean,
    ):
        with pytest.raises(StorageError, match=r"cannot be used \(An error occurred \(503\) SlowDown\)"):
            action()


class ServiceError(Exception):
    """What a bucket's client raises."""


@pytest.mark.parametrize("error", [
    ServiceError("(503) SlowDown"), TimeoutError(), ConnectionResetError("reset"), OSError(errno.EBUSY, "SlowDown"),
])  # fmt: skip
@pytest.mark.parametrize("method", ["pipe_file", "cat_file", "mv", "info", "ls", "find"])
def test_what_passes_is_tried_again(server, monkeypatch, method, error):
    storage, tries = server, []
    storage.put("a", b"old")
    original = getattr(storage._fs, method)

    def shaky(*arguments, **keywords):
        tries.append(1)
        if len(tries) <= 3:
            raise error
        return original(*arguments, **keywords)

    monkeypatch.setattr(storage._fs, method, shaky)
    storage.put("a", b"new")
    assert (storage.get("a"), storage.size("a"), storage.names("", "a")) == (b"new", 3, ["/a"])
    storage.clean()
    assert storage.sizes("") == {"a": 3} and len(tries) > 3
    assert everything(storage) == ["a"]


def test_a_disk_that_passes_is_tried_again(tmp_path, monkeypatch):
    storage, fsync, tries = Storage(str(tmp_path)), os.fsync, []

    def shaky(handle):
        tries.append(1)
        if len(tries) < 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", shaky)
    storage.put("a", b"bytes")
    assert storage.get("a") == b"bytes" and everything(storage) == ["a"]


@pytest.mark.parametrize("error, tries, kind", [
    (ServiceError("(503) SlowDown"), 4, BusyError),
    (PermissionError("no"), 1, StorageError),
    (ServiceError("An error occurred (AccessDenied)"), 1, StorageError),
    (OSError(errno.ENOSPC, "full"), 1, StorageError),
])  # fmt: skip
def test_what_lasts_is_not_tried_for_ever(monkeypatch, error, tries, kind):
    storage, asked = Storage(f"memory://{uuid.uuid4().hex}"), []

    def down(*arguments, **keywords):
        asked.append(1)
        raise error

    monkeypatch.setattr(storage._fs, "cat_file", down)
    with pytest.raises(StorageError) as caught:
        storage.get("a")
    assert type(caught.value) is kind and len(asked) == tries


def test_pauses_grow(tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr("precompute.storage._PAUSES", (1, 4, 16))
    monkeypatch.setattr(time, "sleep", slept.append)
    storage = Storage(f"memory://{uuid.uuid4().hex}")
    monkeypatch.setattr(storage._fs, "info", lambda path: (_ for _ in ()).throw(TimeoutError()))
    with pytest.raises(BusyError):
        storage.size("a")
    assert len(slept) == 3 and 2 * slept[0] < slept[1] < slept[2] / 2


def test_many_files_are_got_and_listed_together(storage):
    for name, data in (("done/a.json", b"1"), ("done/b.json", b"22"), ("done/.c.json", b"3"), ("data/m/d", b"4")):
        storage.put(name, data)
    assert storage.sizes("done") == {"done/a.json": 1, "done/b.json": 2}
    assert storage.sizes("data") == {"data/m/d": 1} and storage.sizes("nowhere") == {}
    found = storage.get_all(["done/a.json", "done/b.json", "done/gone.json"])
    assert found == {"done/a.json": b"1", "done/b.json": b"22"}
    assert storage.get_all(["done/a.json"]) == {"done/a.json": b"1"} and storage.get_all([]) == {}
    storage.delete("done/a.json")
    storage.delete("done/a.json")
    assert storage.get("done/a.json") is None


def test_a_defect_of_the_program_is_no_matter_of_the_disk(tmp_path):
    with pytest.raises(TypeError):
        Storage(str(tmp_path)).put("a", "text instead of bytes")
    assert not list(tmp_path.iterdir())


def test_a_bucket_is_asked_once_to_take_a_file(monkeypatch):
    storage, asked = Storage(f"memory://{uuid.uuid4().hex}/run"), []
    for method in ("pipe_file", "cat_file", "info", "ls", "find", "mv", "rm_file", "exists", "makedirs"):
        original = getattr(storage._fs, method)
        told = lambda *a, method=method, original=original, **k: asked.append(method) or original(*a, **k)  # noqa: E731
        monkeypatch.setattr(storage._fs, method, told)
    storage.put("data/a", b"new")
    assert asked == ["pipe_file"] and storage.clean() == 0 and asked == ["pipe_file"]


def test_a_bucket_is_asked_for_several_things_at_once_and_answers_in_order():
    storage, together = Storage(f"memory://{uuid.uuid4().hex}"), threading.Barrier(8, timeout=30)
    first = lambda i: (i < 8 and together.wait(), i)[1]  # noqa: E731
    assert list(storage.each(first, range(80))) == list(range(80))
    taken = []
    found = storage.each(lambda i: i, (taken.append(i) or i for i in range(1000)))
    assert next(found) == 0 and len(taken) < 100  # some ahead, and no more
    found.close()

    def fails(item):
        raise BusyError("It fails.")

    with pytest.raises(BusyError, match="It fails"):
        list(storage.each(fails, range(40)))


def test_a_server_that_fails_while_renaming_keeps_what_was_there(server, monkeypatch):
    storage = server
    storage.put("a", b"old")

    def lost(*arguments, **keywords):
        raise ConnectionError("gone")

    monkeypatch.setattr(storage._fs, "mv", lost)
    with pytest.raises(StorageError, match="gone"):
        storage.put("a", b"new")
    assert storage.get("a") == b"old" and everything(storage) == ["a"]


def test_another_writers_files_are_seen_at_once():
    name = uuid.uuid4().hex
    ours, theirs = Storage(f"memory://{name}"), Storage(f"memory://{name}")
    assert ours.names("plans", ".json") == []
    theirs.put("plans/a.json", b"")
    assert ours.names("plans", ".json") == ["plans/a.json"] and ours.size("plans/a.json") == 0


def test_temporary_files_of_dead_processes_are_removed_and_no_others(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    living = os.getppid()
    names = {
        f".a.{HOST}.{dead.pid}.0a.tmp": False,
        f".a.b.parquet.{HOST}.{dead.pid}.0b.tmp": False,
        f".a.{HOST}.{os.getpid()}.0c.tmp": False,  # nothing of ours is under way when a run begins
        f".a.{HOST}.{living}.0d.tmp": True,
        f".a.elsewhere.{dead.pid}.0e.tmp": True,  # a process of another machine, not a day old
        ".hidden": True,
        "a.tmp": True,
    }
    (tmp_path / "data").mkdir()
    for name in names:
        (tmp_path / "data" / name).touch()
    old = tmp_path / f".a.elsewhere.{dead.pid}.0f.tmp"
    old.touch()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    assert Storage(str(tmp_path)).clean() == 4
    assert {path.name for path in (tmp_path / "data").iterdir()} == {name for name, stays in names.items() if stays}
    assert not old.exists()


def test_temporary_files_of_a_process_of_somebody_else_stay(tmp_path, monkeypatch):
    def forbidden(process, signal):
        raise PermissionError

    (tmp_path / f".a.{HOST}.12345.0a.tmp").touch()
    monkeypatch.setattr(os, "kill", forbidden)
    assert Storage(str(tmp_path)).clean() == 0


def test_old_temporary_files_on_a_server_are_removed(server, monkeypatch):
    storage = server
    storage.put("data/.a.elsewhere.12.0a.tmp", b"")
    assert storage.clean() == 0
    later = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    assert storage.clean() == 1 and everything(storage) == []


def test_what_cannot_be_removed_is_left_for_later(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))

    def refuse(path):
        raise PermissionError

    monkeypatch.setattr(storage._fs, "rm_file", refuse)
    storage.put("a", b"")
    with pytest.raises(ShardError):
        storage.put("b", b"", lambda stored: (_ for _ in ()).throw(ShardError("no")))
    assert len(everything(storage)) == 2


@pytest.mark.parametrize("name", ["runs [1]", "what?", "a*b", "it's", "ünïcode"])
def test_folders_may_have_any_name(tmp_path, name):
    storage = Storage(str(tmp_path / name))
    storage.put("plans/a.json", b"{}")
    assert storage.names("plans", ".json") == ["plans/a.json"] and (tmp_path / name / "plans/a.json").is_file()


def test_a_folder_is_the_same_wherever_a_worker_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Storage("run").url == str(tmp_path / "run") and Storage("run").folder == tmp_path / "run"


def test_a_url_that_nothing_here_can_open_is_a_sentence(monkeypatch):
    with pytest.raises(StorageError, match="nosuch://bucket/run cannot be opened: Protocol not known"):
        Storage("nosuch://bucket/run")

    def missing(*arguments, **keywords):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(StorageError, match="s3://bucket/run cannot be opened: Install s3fs"):
        Storage("s3://bucket/run")


def test_a_bucket_is_no_folder_of_this_machine():
    with pytest.raises(StorageError, match="is not a folder of this machine; copy it here first"):
        _ = Storage("memory://run").folder
    assert isinstance(Storage("memory://run")._fs, MemoryFileSystem)


def test_hashes_are_those_of_the_sha256sum_command():
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
