"""What Gradio 6.31 does for every visitor, done once for all.

It works out the configuration of all components anew for each visitor, and for each of them the signature of its class; and it
copies, walks through and renders the whole of it, a megabyte, whenever somebody opens the page. All this holds up everybody else:
a third of the time in which Python ran at all while thirty visitors came and went.
"""

import gzip
import inspect
from collections import OrderedDict
from types import SimpleNamespace

import gradio as gr
from gradio.state_holder import SessionState
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PAGES = 8  # that are kept: the page is another for another name of the server
_NAMED_BY = ("host", "x-forwarded-host", "x-forwarded-proto")  # headers from which Gradio takes that name

_begin_session = SessionState.__init__


def _begin_light(self: SessionState, blocks: gr.Blocks) -> None:
    _begin_session(self, SimpleNamespace(default_config=blocks.default_config, blocks=()))


def mend() -> None:
    """Have a visitor's session know the configuration of those components that he has used.

    Gradio works out that of all the others for links to a copy of the page, which this page does not offer.
    """
    SessionState.__init__ = _begin_light


def read_signatures(page: gr.Blocks) -> None:
    """Have `inspect.signature` find what it would work out for each class of the page's components."""
    for kind in {type(block) for block in page.blocks.values()}:
        kind.__init__.__signature__ = inspect.signature(kind.__init__)


class _KeptPage:
    """The page's text, kept compressed once it was made. Whatever has a state of its own is not kept (`deep_link`, cookies)."""

    def __init__(self, app: ASGIApp):
        self._app = app
        self._pages: OrderedDict[tuple, tuple[Message, bytes]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not (
            scope["type"] == "http"
            and (scope["method"], scope["path"]) == ("GET", "/")
            and b"deep_link" not in scope["query_string"]
            and "gzip" in Headers(scope=scope).get("accept-encoding", "")
        ):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = scope["scheme"], scope.get("root_path"), *(headers.get(name) for name in _NAMED_BY)
        if key in self._pages:
            self._pages.move_to_end(key)
        else:
            start, body = await self._made(scope, receive)
            made = Headers(raw=start["headers"])
            if start["status"] != 200 or "set-cookie" in made:
                await send(start)
                await send({"type": "http.response.body", "body": body})
                return
            self._pages[key] = self._compressed(start, body)
            if len(self._pages) > _PAGES:
                self._pages.popitem(last=False)
        start, body = self._pages[key]
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _made(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        start, *parts = messages
        return start, b"".join(part.get("body", b"") for part in parts)

    @staticmethod
    def _compressed(start: Message, body: bytes) -> tuple[Message, bytes]:
        small = gzip.compress(body, mtime=0)
        kept = [(name, value) for name, value in start["headers"] if name not in (b"content-length", b"vary")]
        kept += [
            (b"content-encoding", b"gzip"),
            (b"content-length", str(len(small)).encode()),
            (b"vary", b"Accept-Encoding"),
        ]
        return start | {"headers": kept}, small


MIDDLEWARE = [Middleware(_KeptPage)]
