"""What Gradio 6.31's MCP server does not do by itself.

It hands a client that asks for no progress all outputs of a tool as one text, pictures included; and it calls the tools over HTTP,
from this machine to itself, so that all clients look like one. The library behind it fails at JSON that is nested too deep or no
text, and writes into the log what strangers call their tools, at any length.
"""

import json
import logging
from types import SimpleNamespace
from typing import Any

from gradio.mcp import GradioMCPServer
from mcp.server import streamable_http

from lsd.ui.shared.visitors import on_behalf_of

_whole = GradioMCPServer._execute_tool_without_progress
_prepare = GradioMCPServer._prepare_tool_call_args


async def _one_by_one(self: GradioMCPServer, job: Any) -> list[Any]:
    (result,) = await _whole(self, job)
    return list(result) if isinstance(result, list | tuple) else [result]


def _for_its_client(self: GradioMCPServer, name: str, arguments: dict[str, Any]) -> tuple:
    endpoint, values, headers, function = _prepare(self, name, arguments)
    return endpoint, values, headers | on_behalf_of(self.mcp_server.request_context.request), function


def _loads(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (RecursionError, UnicodeDecodeError) as error:
        raise json.JSONDecodeError("it is nested too deep, or no text", "", 0) from error


def mend() -> None:
    """Have each output of a tool be an answer of its own, each client be counted as itself, and what is no message be refused
    without a word in the log."""
    streamable_http.json = SimpleNamespace(loads=_loads, JSONDecodeError=json.JSONDecodeError)
    logging.getLogger("mcp").setLevel(logging.ERROR)
    GradioMCPServer._execute_tool_without_progress = _one_by_one
    GradioMCPServer._prepare_tool_call_args = _for_its_client
