"""What Gradio 6.31's MCP server does not do by itself.

It hands a client that asks for no progress all outputs of a tool as one text, pictures included; and it calls the tools over HTTP,
from this machine to itself, so that all clients look like one.
"""

from typing import Any

from gradio.mcp import GradioMCPServer

from lsd.ui.shared.visitors import on_behalf_of

_whole = GradioMCPServer._execute_tool_without_progress
_prepare = GradioMCPServer._prepare_tool_call_args


async def _one_by_one(self: GradioMCPServer, job: Any) -> list[Any]:
    (result,) = await _whole(self, job)
    return list(result) if isinstance(result, list | tuple) else [result]


def _for_its_client(self: GradioMCPServer, name: str, arguments: dict[str, Any]) -> tuple:
    endpoint, values, headers, function = _prepare(self, name, arguments)
    return endpoint, values, headers | on_behalf_of(self.mcp_server.request_context.request), function


def mend() -> None:
    """Have each output of a tool be an answer of its own, and each client be counted as itself."""
    GradioMCPServer._execute_tool_without_progress = _one_by_one
    GradioMCPServer._prepare_tool_call_args = _for_its_client
