"""Where values come in: what no control of the page can send is refused in a sentence, before any handler sees it.

A page's events are open to every program, and Gradio hands on much of what it is given: lists where a text is, infinities, the
address of a file that it is to fetch. Handlers may trust what their controls allow. And whatever goes wrong in an event is told
in one sentence here; the log has the place in the code where that was nobody's wish.
"""

import logging
import math
from collections.abc import Sequence
from inspect import signature
from typing import Any

import gradio as gr
import orjson
from gradio.blocks import Block, BlockFunction
from gradio.components.api_component import Api
from gradio.processing_utils import check_all_files_in_cache
from gradio.state_holder import SessionState
from gradio_client.utils import is_file_obj, is_file_obj_with_meta, is_http_url_like, traverse
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lsd.errors import LSDError
from lsd.ui.shared.jobs import sentence

log = logging.getLogger("lsd")

_LONGEST, _MOST = 10_000, 100  # characters of a text, and texts of a list, where the control sets no bound


class RefusedError(LSDError):
    """A value that no control of the page sends."""


class GuardedBlocks(gr.Blocks):
    """A page whose events get what its controls can send, and tell in a sentence what went wrong."""

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], state: SessionState | None, explicit_call: bool = False
    ) -> list[Any]:
        """As Gradio's; raises RefusedError for what is no value of a control."""
        try:
            inputs = completed(block_fn, inputs)
            check(block_fn.inputs, inputs)
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except RefusedError:
            raise
        except Exception as error:  # a text that is no choice, a file that was not uploaded, a number out of range
            raise RefusedError("A control has a value that it cannot have; reload the page.") from error

    async def process_api(self, *values: Any, event_data: gr.EventData | None = None, **named: Any) -> dict[str, Any]:
        """As Gradio's; raises gr.Error alone, with a sentence."""
        try:
            if event_data and not _can_be_told(event_data._data):
                raise RefusedError("The page was told what it cannot read; reload it.")
            return await super().process_api(*values, event_data=event_data, **named)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error


class Guard:
    """ASGI middleware: a request that a route of Gradio's cannot read is answered, and is one line of the log."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            path = (
                scope.get("path", "")[:200].encode("unicode_escape").decode()
            )  # no line breaks of a stranger's in the log
            log.warning("%s %s: %s", scope.get("method"), path, type(error).__name__)
            if scope["type"] != "http":
                return
            if begun:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await PlainTextResponse("This request cannot be read.", 400)(scope, receive, send)


def completed(block_fn: BlockFunction, values: list[Any]) -> list[Any]:
    """What a program has sent, and the defaults of the last arguments that it left out, as clients that know them send them.

    Raises:
        RefusedError: one of these has no default.
    """
    if not block_fn.inputs or not all(isinstance(control, Api) for control in block_fn.inputs):
        return values  # an event of the page; one without inputs is told more by Gradio itself
    left_out = list(signature(block_fn.fn).parameters.values())[len(values) :]
    if needed := [one.name for one in left_out if one.default is one.empty]:
        raise RefusedError(f"{' and '.join(needed)} must be given: “data” lists the arguments in their order.")
    return [*values, *(one.default for one in left_out)]


def check(controls: Sequence[Block], values: Sequence[Any]) -> None:
    """Raises RefusedError where a control's value is none that it can have, as far as Gradio does not look itself."""
    if len(values) != len(controls):
        raise RefusedError("There are more values than controls, or fewer; reload the page.")
    for control, value in zip(controls, values, strict=True):
        if not isinstance(control, gr.State) and not _can_be(control, value):
            label = getattr(control, "label", None) or "A control"
            raise RefusedError(f"“{label}” has a value that it cannot have; reload the page.")


def _can_be(control: Block, value: Any) -> bool:
    if not _is_plain(value) or _names_another_place(value):
        return False
    match control:
        case gr.Checkbox():
            return isinstance(value, bool)
        case gr.Slider():
            return _is_number(value)
        case gr.Number():
            return value is None or _is_number(value)
        case gr.Dropdown(multiselect=True):
            most = _MOST if control.max_choices is None else control.max_choices
            return value is None or (isinstance(value, list) and len(value) <= most and all(map(_is_choice, value)))
        case gr.Dropdown(allow_custom_value=True):
            return value is None or _is_choice(value)
        case gr.Dropdown() | gr.Radio():
            return _is_choice(value) or (value is None and control.value is None)
        case gr.Textbox():
            return value is None or (isinstance(value, str) and len(value) <= (control.max_length or _LONGEST))
        case gr.Image():
            return value is None or is_file_obj(value)
    return True


def _can_be_told(data: Any) -> bool:
    """Whether it is what an event tells: plain, and no file in it that was not uploaded, or that no file can be called."""
    try:
        check_all_files_in_cache(data)
    except Exception:
        return False
    return _is_plain(data)


def _is_plain(value: Any) -> bool:
    """Whether it can be sent back: no half of a character, no number beyond 64 bits, nothing nested without end."""
    try:
        orjson.dumps(value)
    except TypeError:  # orjson's own is one
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_choice(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, str) and len(value) <= _LONGEST)


def _names_another_place(value: Any) -> bool:
    """Whether a file in it is one that the server would have to fetch, for any control, or, since it is not marked as a file, one
    that Gradio does not hold against what was uploaded: it would be read wherever it lies."""
    found: list[bool] = []
    traverse(
        value, lambda file: found.append(is_http_url_like(file["path"]) or not is_file_obj_with_meta(file)), is_file_obj
    )
    return any(found)
