"""Who asks, and that a flood of one visitor is refused in a sentence while others are served."""

import asyncio
import json
import threading
import time
import uuid
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from starlette.requests import Request

from lsd.errors import LSDError
from lsd.public import trusted_proxies
from lsd.ui.shared import jobs, visitors
from lsd.ui.shared.limits import MAX_CLIENT_EVENTS, MAX_SESSION_EVENTS, requests_a_minute
from lsd.ui.shared.line import Line, Owner
from lsd.ui.shared.long_event import LONG, long_event
from lsd.ui.shared.rates import Rate
from lsd.ui.shared.visitors import client_of, on_behalf_of, share_queue

ROOT = Path(__file__).parents[2]


def request(host, **headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "client": host and (host, 1234)})


def test_a_client_is_an_address_or_a_network_of_one_visitor():
    assert client_of(request("203.0.113.7")) == "203.0.113.7"
    assert client_of(request("2001:db8:1:2:3:4:5:6")) == client_of(request("2001:db8:1:2::1")) == "2001:db8:1:2::"
    assert client_of(request("2001:db8:1:3::1")) != client_of(request("2001:db8:1:2::1"))
    assert client_of(request("::ffff:203.0.113.7")) == "203.0.113.7"
    assert client_of(request("testclient")) == "testclient" and client_of(request(None)) == ""


def test_only_this_process_may_say_for_whom_it_asks():
    told = on_behalf_of(request("203.0.113.7"))
    assert client_of(request("127.0.0.1", **{n.replace("-", "_"): v for n, v in told.items()})) == "203.0.113.7"
    for forged in ("198.51.100.1", " 198.51.100.1", "secret 198.51.100.1", "é x"):
        assert client_of(request("203.0.113.7", x_lsd_caller=forged)) == "203.0.113.7"
    assert client_of(request("203.0.113.7", x_forwarded_for="198.51.100.1")) == "203.0.113.7"


@pytest.mark.parametrize(
    ("space", "peer", "told", "client"),
    [
        ("", "127.0.0.1", "198.51.100.1", "127.0.0.1"),  # no proxy is known, and whoever asks could write it himself
        ("", "203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("somebody/lsd", "10.20.3.4", "198.51.100.1", "198.51.100.1"),
        (
            "somebody/lsd",
            "10.20.3.4",
            "192.0.2.9, 198.51.100.1, 10.1.1.1",
            "198.51.100.1",
        ),  # the first is his own claim
        ("somebody/lsd", "203.0.113.7", "198.51.100.1", "203.0.113.7"),
    ],
)
def test_who_stands_behind_a_proxy_is_told_by_it_and_by_nobody_else(monkeypatch, fresh, space, peer, told, client):
    """As uvicorn reads the variable that `app.py` sets."""
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    monkeypatch.setenv("SPACE_ID", space)
    found = []

    async def app(scope, receive, send):
        found.append(client_of(Request(scope)))

    scope = request(peer, x_forwarded_for=told).scope
    asyncio.run(ProxyHeadersMiddleware(app, trusted_hosts=trusted_proxies())(scope, None, None))
    assert found == [client]
    code = "import app, os; print(os.environ['FORWARDED_ALLOW_IPS'] == app.trusted_proxies())"
    if peer == "127.0.0.1":
        assert fresh.run(["-c", code], ROOT, {"SPACE_ID": space}).stdout.strip().endswith("True")


class Browser:
    """What a page's browser says to the queue."""

    def __init__(self, url):
        self.session, self._client = uuid.uuid4().hex, httpx.Client(base_url=url + "gradio_api", timeout=60)

    def join(self, number, data):
        body = {"fn_index": number, "data": data, "session_hash": self.session}
        return self._client.post("/queue/join", json=body)

    def news(self):
        with self._client.stream("GET", "/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield message
                    if message["msg"] in ("close_stream", "unexpected_error"):
                        return

    def completed(self):
        return [message for message in self.news() if message["msg"] == "process_completed"]


@pytest.fixture
def crowded(monkeypatch):
    """A page with a quick event, a slow one and a long one, as the real page has them: its address and their numbers."""
    go = threading.Event()
    monkeypatch.setattr(jobs, "LINE", Line(places=1, longest=3))

    def long(text):
        try:
            with jobs.turn():
                go.wait(30)
                yield {status: text}
        except LSDError as error:
            yield {status: str(error)}

    with gr.Blocks() as page:
        text, status, button = gr.Textbox(), gr.HTML(), gr.Button()
        button.click(lambda text: text, text, status)
        button.click(lambda text: go.wait(30) and text, text, status)
        button.click(long_event(lambda values: long(values[text]), status, "test"), {text}, status, **LONG)
    page.queue(default_concurrency_limit=1)
    share_queue(page)
    _, url, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, app_kwargs={"middleware": visitors.MIDDLEWARE}
    )
    yield url, go
    go.set()
    page.close()


QUICK, SLOW, LONG_ONE = range(3)


def test_a_flood_of_one_visitor_is_refused_in_a_sentence_and_nobody_elses_event_is(crowded):
    url, go = crowded
    flood, other = Browser(url), Browser(url)
    answers = [flood.join(SLOW, ["x"]) for _ in range(MAX_SESSION_EVENTS + 9)]
    assert [answer.status_code for answer in answers] == [200] * MAX_SESSION_EVENTS + [429] * 9
    assert "things that are not done yet; please wait" in answers[-1].json()["detail"]
    assert other.join(QUICK, ["moved"]).status_code == 200
    (done,) = other.completed()
    assert done["success"] and done["output"]["data"] == ["moved"]
    go.set()
    assert len(flood.completed()) == MAX_SESSION_EVENTS
    assert flood.join(QUICK, ["again"]).status_code == 200  # what is done is not counted


def test_on_a_public_page_the_sessions_of_one_address_are_counted_together(crowded, monkeypatch):
    url, _ = crowded
    monkeypatch.setattr(visitors, "MAX_CLIENT_EVENTS", 5)
    seen = [Browser(url).join(SLOW, ["x"]).status_code for _ in range(7)]
    assert seen == [200] * 7  # on a page of one's own, they may be as many as they like
    monkeypatch.setenv("LSD_PUBLIC", "1")
    assert Browser(url).join(QUICK, ["x"]).status_code == 429
    assert MAX_CLIENT_EVENTS > MAX_SESSION_EVENTS


def test_what_goes_past_the_queue_is_counted_on_a_public_page(monkeypatch):
    """A class of visitors behind one address is not refused, a flood is."""
    monkeypatch.setenv("LSD_PUBLIC", "1")
    monkeypatch.setattr(visitors, "MAX_CLIENT_EVENTS", 3)
    sent = []

    async def crowd():
        go = asyncio.Event()

        async def app(scope, receive, send):
            await go.wait()

        async def send(message):
            sent.append(message)

        quick = visitors._Quick(app)

        def ask(host):
            scope = {
                "type": "http",
                "method": "POST",
                "path": "/gradio_api/run/predict",
                "headers": [],
                "client": (host, 1),
            }
            return asyncio.ensure_future(quick(scope, None, send))

        tasks = [ask("203.0.113.7") for _ in range(4)] + [ask("203.0.113.8")]
        await asyncio.sleep(0.05)
        assert [task.done() for task in tasks] == [False, False, False, True, False]
        go.set()
        await asyncio.gather(*tasks)
        assert not quick._running

    asyncio.run(crowd())
    assert sent[0]["status"] == 429 and "please wait" in json.loads(sent[1]["body"])["error"]


def test_a_visitor_who_asks_again_replaces_what_he_waits_for(crowded):
    url, go = crowded
    first, visitor, other = Browser(url), Browser(url), Browser(url)
    for browser, text in ((first, "first"), (visitor, "asked"), (other, "another's"), (visitor, "asked anew")):
        there = set(jobs.LINE._tickets)
        browser.join(LONG_ONE, [text])
        deadline = time.monotonic() + 10
        while set(jobs.LINE._tickets) <= there and time.monotonic() < deadline:
            time.sleep(0.02)
    owners = [ticket.owner for ticket in jobs.LINE._tickets if not ticket.refusal][1:]
    assert owners == [Owner(other.session, "127.0.0.1"), Owner(visitor.session, "127.0.0.1")]
    go.set()
    told = [str(message.get("output")) for message in visitor.news()]
    assert any("asked anew" in text for text in told)
    assert any("asked for something else meanwhile" in text for text in told)


@pytest.fixture
def public(page_url, monkeypatch):
    """The real page as a public one, where nobody has asked for anything yet."""
    monkeypatch.setenv("LSD_PUBLIC", "1")
    monkeypatch.setattr(visitors, "_rate", Rate())
    return page_url


PREDICT = {"image": "example:Coffee cup", "model": "demo:vit", "api_name": "/predict"}


def test_programs_are_told_when_to_come_back(public, monkeypatch):
    monkeypatch.setenv("LSD_REQUESTS_A_MINUTE", "2")
    clients = [Client(public, verbose=False) for _ in range(2)]  # another session is no other visitor
    for client in clients:
        assert client.predict(**PREDICT)["model"] == "demo:vit"
    with pytest.raises(AppError, match=r"answers 2 requests a minute of one visitor; please ask again in \d+ s\.$"):
        clients[0].predict(**PREDICT)
    with pytest.raises(AppError, match="please ask again in"):
        clients[1].predict(model="demo:resnet", unit="class/1", steps=1, api_name="/feature")
    with pytest.raises(AppError, match="please ask again in"):
        clients[1].predict(**PREDICT | {"api_name": "/saliency"})
    monkeypatch.setenv("LSD_REQUESTS_A_MINUTE", "0")
    assert clients[0].predict(**PREDICT)["model"] == "demo:vit"


def test_an_mcp_client_is_counted_as_himself(public, monkeypatch):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    monkeypatch.setenv("LSD_REQUESTS_A_MINUTE", "1")
    counted = []
    take = visitors._rate.take
    monkeypatch.setattr(
        visitors._rate, "take", lambda client, a_minute: counted.append(client) or take(client, a_minute)
    )
    monkeypatch.setattr(visitors, "client_of", spoken_for(visitors.client_of))

    async def asked():
        headers = {"x-lsd-caller": "forged 192.0.2.1", "x-visitor": "203.0.113.7"}
        async with (
            streamablehttp_client(f"{public}gradio_api/mcp/", headers=headers) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            ask = {"image": "example:Coffee cup", "model": "demo:vit"}
            return [await session.call_tool("predict", ask) for _ in range(2)]

    first, second = asyncio.run(asked())
    assert not first.isError and second.isError and "please ask again in" in second.content[0].text
    assert counted == ["203.0.113.7"] * 2


def spoken_for(client_of_):
    """As if the MCP client came from elsewhere: the tests' own address is this process's as well."""

    def client(request):
        at_the_door = request.url.path.startswith("/gradio_api/mcp")
        return request.headers["x-visitor"] if at_the_door else client_of_(request)

    return client


def test_a_page_of_ones_own_knows_no_such_limit(monkeypatch):
    for name in ("LSD_PUBLIC", "SPACE_ID", "LSD_REQUESTS_A_MINUTE"):
        monkeypatch.delenv(name, raising=False)
    assert requests_a_minute() is None
    monkeypatch.setenv("SPACE_ID", "somebody/lsd")
    assert requests_a_minute() == 60


def test_there_is_one_door_to_what_waits(page_url):
    """Else whoever knows the direct address asks past the queue's limits."""
    answer = httpx.post(f"{page_url}gradio_api/run/predict", json={"data": ["example:Coffee cup", "demo:vit", 5, ""]})
    assert answer.status_code == 404


def test_of_the_programs_of_one_address_one_waits_on_a_public_page(public):
    clients = [Client(public, verbose=False) for _ in range(3)]
    with jobs.turn():  # somebody else's
        asked, seen = [], set()
        for number, client in enumerate(clients, start=1):
            asked.append(client.submit(**PREDICT | {"top": number}))
            deadline = time.monotonic() + 20
            while len(seen) < number and time.monotonic() < deadline:
                seen |= {ticket for ticket in jobs.LINE._tickets if ticket.owner.key}
                time.sleep(0.01)
        for one in asked[:2]:
            with pytest.raises(AppError, match="asked for something else meanwhile"):
                one.result(30)
    assert len(asked[2].result(30)["top"]) == 3
