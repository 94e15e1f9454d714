"""The door to the GPU, where that is lent for a while: on a ZeroGPU Space, work that runs a network runs in a process that the
`spaces` package forks. Everywhere else (no `SPACES_ZERO_GPU`) there is no door, and the work is called as it stands.

The page's own process keeps every network on its CPU, whatever `torch.cuda` says there; the borrowed process moves those that it
is given to the GPU. What goes through the door is pickled here: functions and networks by name, since neither travels, tensors
through the CPU, all else by value. Work that goes through it neither waits for a turn nor loads what is far away.
"""

import io
import math
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from lsd.errors import LSDError
from lsd.layers import as_said
from lsd.models import ImageModel, get_model
from lsd.process import is_gpu_lent
from lsd.said import Said
from lsd.ui.shared import jobs
from lsd.ui.shared.limits import job_seconds

Item = TypeVar("Item")

_USUAL = 60  # seconds that are asked for where nobody has measured the work, as `spaces` itself does
_SHORTEST, _LONGEST = 10, 120
_MARGIN = 1.5  # times what is expected: whoever is over his time is ended


class LentError(LSDError):
    """No GPU was lent, or it was taken away."""


@dataclass(frozen=True)
class _Made:
    """Something that the work yields, told from how far it is."""

    item: Any


def steps(work: Callable[..., Iterator[Item]], *arguments: Any, **named: Any) -> Iterator[Item]:
    """What `work(*arguments, **named)` yields, run where the GPU is. Closing it ends the work.

    Args:
        work: a generator function of a module. What it changes of its arguments may be changed in another process only.

    Raises:
        LentError: no GPU could be had, or it was taken away.
        whatever `work` raises.
    """
    return _through(work, arguments, named) if _door else work(*arguments, **named)


def call(work: Callable[..., Item], *arguments: Any, **named: Any) -> Item:
    """What `work(*arguments, **named)` returns, run where the GPU is; as `steps`, for a function."""
    if not _door:
        return work(*arguments, **named)
    (found,) = _through(_once, (work, *arguments), named)
    return found


def _once(work: Callable[..., Item], *arguments: Any, **named: Any) -> Iterator[Item]:
    yield work(*arguments, **named)


def _through(work: Callable, arguments: tuple, named: dict) -> Iterator:
    """The page's side of the door."""
    import gradio as gr

    try:
        with closing(_door(_packed((work, arguments, named)), _seconds())) as messages:
            for message in messages:
                jobs.check()
                match _opened(message):
                    case _Made(item):
                        yield item
                    case BaseException() as error:
                        raise error
                    case situation:
                        jobs.tell(situation)
    except gr.Error as error:  # `spaces`' own, of quotas and of processes that were ended
        raise LentError(f"{error.title}: {str(error.message).strip().rstrip('.')}.") from error


def _inside(parcel: bytes, seconds: int) -> Iterator[bytes]:
    """The borrowed side: the work's messages. It speaks at least twice a second, since `spaces` looks only then at whether
    anybody still listens."""

    def work() -> Iterator[_Made]:
        function, arguments, named = _opened(parcel, borrowed=True)
        for item in function(*arguments, **named):
            yield _Made(item)

    try:
        with closing(jobs.followed(work)) as found:
            for news in found:
                yield _packed(news)
    except Exception as error:  # `spaces` would hand on its name only
        yield _packed(_portable(error))


def _portable(error: Exception) -> Exception:
    """The error as it can be raised in another process, with a note on where it was raised in this one."""
    told = "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(told)
    return error


def _seconds() -> int:
    """That the GPU is asked for: what is left of the job's price, and some more."""
    left, most = jobs.seconds_left(), job_seconds() or _LONGEST
    wanted = _USUAL if left is None else max(_MARGIN * left, _SHORTEST)
    return math.ceil(min(wanted, most))


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> tuple[str, Said] | None:
        return (obj.name, obj.said) if isinstance(obj, ImageModel) else None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor) and obj.device.type != "cpu":
            return obj.detach().cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, borrowed: bool):
        super().__init__(file)
        self._borrowed = borrowed

    def persistent_load(self, pid: tuple[str, Said]) -> ImageModel:
        name, said = pid
        model = as_said(get_model(name), said)
        if self._borrowed:
            # The page's may have been held, when this process was forked, by a thread that is not here.
            model.lock = threading.RLock()
            model.to("cuda" if torch.cuda.is_available() else "cpu")
        return model


def _packed(something: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(something)
    return file.getvalue()


def _opened(parcel: bytes, *, borrowed: bool = False) -> Any:
    return _Unpickler(io.BytesIO(parcel), borrowed).load()


def _open() -> Callable[[bytes, int], Iterator[bytes]] | None:
    """The door, where there is one."""
    if not is_gpu_lent():
        return None
    import spaces

    return spaces.GPU(duration=lambda parcel, seconds: seconds)(_inside)


_door = _open()
