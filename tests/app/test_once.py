"""What is done once for all visitors, and that each still gets his own."""

import inspect

import gradio as gr
import httpx
import pytest

from lsd.ui.shared.once import _PAGES, _KeptPage, read_signatures


def test_signatures_are_what_they_were():
    with gr.Blocks() as page:
        gr.HTML("a"), gr.Slider(0, 1, 0.5), gr.State(1)
    kinds = {type(block) for block in page.blocks.values()}
    before = {kind: inspect.signature(kind.__init__) for kind in kinds}
    config = [block.get_config() for block in page.blocks.values()]
    read_signatures(page)
    assert {kind: kind.__init__.__signature__ for kind in kinds} == before
    assert [block.get_config() for block in page.blocks.values()] == config


def test_a_session_holds_what_its_visitor_has_used(page_url):
    """And its values are his own."""
    with gr.Blocks() as page:
        kept, text, other, button = gr.State(0), gr.Textbox(), gr.Textbox(), gr.Button()
        button.click(lambda kept, text: (kept + len(text), gr.update(value=text, lines=3)), [kept, text], [kept, other])
    _, url, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    for visitor in ("a", "b"):
        for times in (1, 2):
            body = {"data": [None, "four"], "session_hash": visitor, "fn_index": 0}
            answer = httpx.post(f"{url}gradio_api/run/predict", json=body).json()
            assert answer["data"][1] == {"value": "four", "lines": 3, "__type__": "update"}
            session = page.state_holder[visitor]
            assert session[kept._id] == 4 * times
            assert session[other._id].lines == 3 and other.lines == 1
            assert set(session.config_values) == {kept._id, text._id, other._id}
    page.close()


def test_the_page_is_made_once_and_is_the_same(page_url):
    plain = httpx.get(page_url, headers={"accept-encoding": "identity"})
    kept = [httpx.get(page_url, headers={"accept-encoding": "gzip"}) for _ in range(2)]
    for answer in kept:
        assert answer.headers["content-encoding"] == "gzip" and answer.text == plain.text
    assert int(kept[0].headers["content-length"]) < len(plain.content) / 3
    named = httpx.get(page_url, headers={"accept-encoding": "gzip", "x-forwarded-host": "lsd.example.org"})
    assert "lsd.example.org" in named.text and "lsd.example.org" not in kept[0].text


@pytest.fixture
def asked():
    """Asks a kept page: the answer, and how often it was made; names of servers without number are asked for."""
    made = []

    async def app(scope, receive, send):
        made.append(scope["path"])
        status, headers = (200, []) if b"state" not in scope["query_string"] else (200, [(b"set-cookie", b"a=b")])
        status = 500 if b"wrong" in scope["query_string"] else status
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"page", "more_body": True})
        await send({"type": "http.response.body", "body": b" of " + str(len(made)).encode()})

    kept = _KeptPage(app)
    with_transport = httpx.AsyncClient(transport=httpx.ASGITransport(kept), base_url="http://a")
    return with_transport, made, kept


def test_only_the_page_is_kept_and_only_if_it_is_one(asked):
    import asyncio

    client, made, kept = asked

    async def visit():
        for path, times in (("/", 1), ("/other", 2), ("/?deep_link=x", 2)):
            before = len(made)
            await client.get(path), await client.get(path)
            assert len(made) - before == times, path
        assert (await client.get("/?tab=features")).text == "page of 1"  # the address is read in the browser
        for query in ("wrong", "state"):
            host = {"host": query}
            await client.get(f"/?{query}", headers=host)
            assert (await client.get("/", headers=host)).text != "page of 1"
        for number in range(20):
            await client.get("/", headers={"host": f"h{number}"})
        assert len(kept._pages) == _PAGES

    asyncio.run(visit())
