"""What Gradio 6.31's MCP server does not do by itself.

It hands a client that asks for no progress all outputs of a tool as one text, pictures included. It calls the tools over HTTP,
from this machine to itself, so that all clients look like one, and so that an argument that is written as a client's file, with its
path, is a file of this machine, which is read. The library behind it fails at JSON that is nested too deep or no text, and
writes into the log what strangers call their tools, at any length.
"""

import json
import logging
from types import SimpleNamespace
from typing import Any

from gradio.mcp import GradioMCPServer
from mcp.server import streamable_http

from lsd.errors import LSDError
from lsd.ui.shared.visitors import on_behalf_of

_whole = GradioMCPServer._execute_tool_without_progress
_prepare = GradioMCPServer._prepare_tool_call_args


async def _one_by_one(self: GradioMCPServer, job: Any) -> list[Any]:
    (result,) = await _whole(self, job)
    return list(result) if isinstance(result, list | tuple) else [result]


def _for_its_client(self: GradioMCPServer, name: str, arguments: dict[str, Any]) -> tuple:
    if _holds_file(arguments):
        raise LSDError("No tool here takes a file by its path; give the picture in base64, or “example:NAME”.")
    endpoint, values, headers, function = _prepare(self, name, arguments)
    return endpoint, values, headers | on_behalf_of(self.mcp_server.request_context.request), function


def _holds_file(value: Any) -> bool:
    """Whether anything in it is what Gradio's client takes for a file."""
    left = [value]
    while left:
        match left.pop():
            case {"path": _, "meta": _}:
                return True
            case dict(inner):
                left += inner.values()
            case list(inner):
                left += inner
    return False


def _loads(text: bytes) -> Any:
    try:
        found = json.loads(text)
        if b"\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # a half of a character cannot be answered
        return found
    except (RecursionError, UnicodeError) as error:
        raise json.JSONDecodeError("it is nested too deep, or no text", "", 0) from error


def mend() -> None:
    """Have each output of a tool be an answer of its own, each client be counted as itself, and what is no message be refused
    without a word in the log."""
    streamable_http.json = SimpleNamespace(loads=_loads, JSONDecodeError=json.JSONDecodeError)
    logging.getLogger("mcp").setLevel(logging.ERROR)
    GradioMCPServer._execute_tool_without_progress = _one_by_one
    GradioMCPServer._prepare_tool_call_args = _for_its_client
