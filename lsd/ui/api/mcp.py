"""Gradio 6.31 hands an MCP client that asks for no progress all outputs of a tool as one text, pictures included."""

from typing import Any

from gradio.mcp import GradioMCPServer

_whole = GradioMCPServer._execute_tool_without_progress


async def _one_by_one(self: GradioMCPServer, job: Any) -> list[Any]:
    (result,) = await _whole(self, job)
    return list(result) if isinstance(result, list | tuple) else [result]


def mend() -> None:
    """Have each output of a tool be an answer of its own, as it is for clients that ask for progress."""
    GradioMCPServer._execute_tool_without_progress = _one_by_one
