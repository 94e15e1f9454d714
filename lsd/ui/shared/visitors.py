"""Who asks, and how much one visitor may ask for at the same time, so that a flood of one is not everybody's.

A visitor is known by his page's session, and by the network address that he comes from. The address is that of the connection,
or, where the connection is a proxy's that whoever runs the page trusts (`FORWARDED_ALLOW_IPS`, which uvicorn reads), the one that
the proxy names.
"""

import hmac
import ipaddress
import math
import secrets
from collections import Counter
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio.context import LocalContext
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from lsd.errors import LSDError
from lsd.public import is_public
from lsd.ui.shared.limits import MAX_CLIENT_EVENTS, MAX_SESSION_EVENTS, requests_a_minute
from lsd.ui.shared.line import Owner
from lsd.ui.shared.rates import Rate

_IPV6_NETWORK = 64  # bits that one visitor has all addresses of
_CALLER = "x-lsd-caller"  # a header of this process to itself
_SECRET = secrets.token_hex()  # by which it knows its own
_TOO_MANY = "You have asked for {} things that are not done yet; please wait until some of them are."

_rate = Rate()


class RateError(LSDError):
    """A client has asked too often."""


def client_of(request: HTTPConnection) -> str:
    """The network address that a request comes from; of IPv6, the network. "" where nobody knows."""
    secret, _, told = request.headers.get(_CALLER, "").partition(" ")
    if hmac.compare_digest(secret.encode(), _SECRET.encode()):
        return told
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6 and not address.ipv4_mapped:
        return str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False).network_address)
    return str(getattr(address, "ipv4_mapped", None) or address)


def on_behalf_of(request: HTTPConnection) -> dict[str, str]:
    """Headers of a request of this process to itself, by which it is counted as the one that it was made for."""
    return {_CALLER: f"{_SECRET} {client_of(request)}"}


def _asking() -> tuple[str, str]:
    """Session and client of the event that Gradio runs here."""
    event = LocalContext.request.get(None)
    if event is None or event.request is None:
        return "", ""
    return event.session_hash or "", client_of(event.request)


def of_page() -> Owner:
    """Whose a job of the page is."""
    session, client = _asking()
    return Owner(session, client)


def of_program() -> Owner:
    """Whose a job of an endpoint is: programs open as many sessions as they like, so on a public page only their address counts."""
    _, client = _asking()
    return Owner(f"program at {client}" if is_public() and client else "", client)


def count_request() -> None:
    """Count a program's request.

    Raises:
        RateError: on a public page, too many within a minute; it says when to come back.
    """
    (_, client), allowed = _asking(), requests_a_minute()
    wait = _rate.take(client, allowed) if allowed and client else 0
    if wait:
        raise RateError(
            f"This page answers {allowed:g} requests a minute of one visitor; please ask again in {math.ceil(wait)} s."
        )


def share_queue(page: gr.Blocks) -> None:
    """Have the page's queue take any number of events, but not any number of one visitor's.

    Gradio's own `max_size` counts everybody's events together: once one visitor has filled the queue, all others are refused.
    """
    queue = page._queue
    push = queue.push

    async def pushed(body: Any, request: Any, username: str | None) -> tuple:
        client = client_of(request)
        events = list(queue.event_ids_to_events.values())
        sessions = Counter(event.session_hash for event in events)
        limits = [(sessions[body.session_hash], MAX_SESSION_EVENTS)] if body.session_hash else []
        if is_public():
            limits.append((sum(client_of(event.request) == client for event in events), MAX_CLIENT_EVENTS))
        for number, most in limits:
            if number >= most:
                raise HTTPException(429, _TOO_MANY.format(number))
        return await push(body, request, username)

    queue.push = pushed


class _Quick:
    """What goes past the queue, on a public page: not any number of one visitor's at the same moment either."""

    def __init__(self, app: ASGIApp):
        self._app, self._running = app, Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "/gradio_api/run/" not in scope["path"] or not is_public():
            await self._app(scope, receive, send)
            return
        client = client_of(HTTPConnection(scope))
        if self._running[client] >= MAX_CLIENT_EVENTS:
            said = _TOO_MANY.format(self._running[client])
            await JSONResponse({"detail": said, "error": said}, 429)(scope, receive, send)
            return
        self._running[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running[client] -= 1
            if not self._running[client]:
                del self._running[client]


MIDDLEWARE = [Middleware(_Quick)]
