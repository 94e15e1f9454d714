"""What a program may send to the page's MCP server: calls of tools, and messages that are none."""

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.hostile.pictures import files
from benchmarks.hostile.values import MARKUP, MODELS, NESTED, values

PATH = "/gradio_api/mcp/"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}

HONEST = {  # what each of the page's endpoints for programs is usually asked
    "predict": {"image": "example:Coffee cup", "model": "demo:resnet", "top": 1},
    "saliency": {"image": "example:Coffee cup", "model": "demo:resnet", "method": "gradient"},
    "attention": {"image": "example:Coffee cup", "model": "demo:vit"},
    "feature": {"model": "demo:resnet", "unit": "class/3", "steps": 2},
    "reasons": {"image": "example:Coffee cup", "model": "demo:resnet"},
}


class Message(NamedTuple):
    """One request to `PATH`: what is wrong with it, in words, and its body."""

    what: str
    body: bytes


def call(tool: Any, arguments: Any, **more: Any) -> bytes:
    """A call of a tool, as the protocol writes it."""
    parameters = {"name": tool, "arguments": arguments}
    return _bytes({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": parameters} | more)


def _bytes(message: Any) -> bytes:
    return json.dumps(message).encode("utf-8", "surrogatepass")


def messages(secret: str, elsewhere: str) -> Iterator[Message]:
    """One of each kind; arguments as for `values`."""
    hostile = values(secret, elsewhere)
    for tool, usual in HONEST.items():
        for argument in (*usual, "nowhere", "settings"):
            for number, value in enumerate(hostile):
                yield Message(f"{tool}: {argument} is hostile value {number}", call(tool, usual | {argument: value}))
        for arguments in (None, [], "text", 3, NESTED, {}, {"": None}):
            yield Message(f"{tool}: arguments {str(arguments)[:40]}", call(tool, arguments))
        for model in MODELS:
            yield Message(f"{tool}: model {model[:40]}", call(tool, usual | {"model": model}))
    for tool in (
        "",
        "nowhere",
        "_draw",
        "__class__",
        "../predict",
        MARKUP,
        "x" * 100_000,
        "\ud800",
        None,
        3,
        [],
        {},
        NESTED,
    ):
        yield Message(f"tool {str(tool)[:40]}", call(tool, HONEST["predict"]))
    for file in files():
        if len(file.content) < 100_000:
            text = base64.b64encode(file.content).decode()
            for image in (text, f"data:image/png;base64,{text}"):
                yield Message(f"picture {file.kind} {file.name}", call("predict", HONEST["predict"] | {"image": image}))
    deep = b"[" * 100_000 + b"]" * 100_000
    yield Message("JSON of 100,000 levels", deep)
    yield Message("arguments of 100,000 levels", call("predict", "@").replace(b'"@"', deep))
    for body in (
        b"",
        b"{",
        b"null",
        b"[]",
        b"3",
        b"\xff\xfe\x00",
        b'{"jsonrpc": "1.0"}',
        b"NaN",
        b'"' + b"x" * 10**6 + b'"',
    ):
        yield Message(f"no message: {body[:20]!r}", body)
    methods = "nowhere", "tools/nowhere", "resources/read", "prompts/get", "logging/setLevel", "completion/complete"
    for method in ("", *methods, None, 3, {}):
        for parameters in (
            None,
            [],
            {"uri": f"file://{secret}"},
            {"uri": elsewhere},
            {"name": MARKUP, "arguments": {"a": MARKUP}},
        ):
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
            yield Message(f"method {method} with {str(parameters)[:40]}", _bytes(message))
    for number in (None, {}, [], 1.5, "x" * 10_000, 10**400):
        yield Message(f"id {str(number)[:20]}", call("predict", HONEST["predict"], id=number))
