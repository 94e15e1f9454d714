"""How the page answers a crowd: visitors who browse, ask for explanations and small ascents, and leave in the middle.

    python -m benchmarks.load [--visitors 50] [--seconds 60] [--json FILE] [--root CHECKOUT] [--url http://…]

The page is started for the purpose, as `app.py` starts it, and asked over HTTP as browsers ask it: a gallery event and the
pictures that it names; an explanation's event in Gradio's queue and its news until all maps are there, and on until its last word;
the redraw that follows; `/feature` like a program. Of a visitor's steps 80% are in the gallery, 15% explanations (the question
that the page opens with, three times in ten on another example), 5% ascents of eight steps on a demo network; between two steps
he looks at what he has got. A tenth leave in the middle of a step: the connection is closed, and a new visitor takes his place.
Each comes from an address of his own, which the server is told as by a proxy.

Printed, and written as JSON: for each kind of step how long it took (median, 95%, longest); errors by their sentence, those that
say “busy” apart; how long a place was still held for somebody who had left; the server's memory at each minute, and its processor
time; and how long it was silent at the longest, to somebody who asks it a trifle every 50 ms.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path

import httpx

from benchmarks.app_start import free_port

ROOT = Path(__file__).parents[1]
API = "/gradio_api"
CLAIMS = "/load-claims"  # which addresses have a place in the line or wait for one; only the page started here has it

GALLERY, PICTURE, PAGE, MAPS, ANSWER, REDRAW, ASCENT = (
    "gallery view", "gallery picture", "whole page", "explanation, all maps", "explanation, last word", "redraw", "ascent"
)  # fmt: skip
_SHARES = {"browse": 0.80, "explain": 0.15, "ascend": 0.05}
_OTHER_EXAMPLE = 0.3  # of the explanations
_LEAVES = 0.1  # of the steps
_LOOKS = (1.0, 7.0)  # seconds between two steps
_PICTURES = 6  # of a gallery view that are in sight
_BUSY = re.compile(r"already waiting|waiting already|please wait|try again in a minute|meanwhile|ask again in")

# The page as app.py serves it, and one route more.
_SERVER = f"""
import app
from starlette.responses import JSONResponse
from starlette.routing import Route
from lsd.ui.page import launch_settings
from lsd.ui.shared import jobs
claims = lambda request: JSONResponse([getattr(getattr(t, "owner", None), "client", "") for t in list(jobs.LINE._tickets)])
settings = launch_settings()
settings["app_kwargs"]["routes"] = [*settings["app_kwargs"]["routes"], Route("{CLAIMS}", claims)]
app.demo.launch(**settings, prevent_thread_lock=True)
app.threading.Thread(target=app.warm_up, daemon=True).start()
app.demo.block_thread()
"""


@contextlib.contextmanager
def started(root: Path) -> Iterator[tuple[str, int]]:
    """The page of a checkout in a process of its own, once it answers: its address and the process."""
    port = free_port()
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "FORWARDED_ALLOW_IPS": "127.0.0.1"
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", _SERVER], cwd=root, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{url}{API}/app_id", timeout=5)
                break
            if process.poll() is not None:
                raise SystemExit("The page did not start.")
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


class Log:
    """What was seen."""

    def __init__(self):
        self.times: dict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()
        self.busy: Counter[str] = Counter()
        self.held: list[float] = []  # seconds
        self.left = 0

    def trouble(self, kind: str, sentence: str) -> None:
        sentence = re.sub(r"\d+", "N", sentence)[:200]
        (self.busy if _BUSY.search(sentence) else self.errors)[f"{kind}: {sentence}"] += 1


class Site:
    """What a browser knows of the page: its events and what their inputs say at first."""

    def __init__(self, url: str, config: dict):
        self.url = url
        self._components = {c["id"]: c for c in config["components"]}
        self._events = config["dependencies"]
        self.gallery = next(e for e in self._events if any(name == "gallery" for _, name in e["targets"]))
        self.explain = self._with_input("_explain", "Picture")
        self.redraw = next(e for e in self._events if e["api_name"] == "_draw")
        self.feature = next(e for e in self._events if e["api_name"] == "feature")
        values = [c["props"].get("value") for c in config["components"] if c["props"].get("label") == "Examples"]
        self.examples = [item["image"] for item in values[0]]
        self.networks = list(self.values(self.explain)[self._labels(self.explain).index("Models, up to four")])

    def _with_input(self, name: str, label: str) -> dict:
        return next(e for e in self._events if e["api_name"] == name and label in self._labels(e))

    def _labels(self, event: dict) -> list[str | None]:
        return [self._components[i].get("props", {}).get("label") for i in event["inputs"]]

    def values(self, event: dict, **changes) -> list:
        """What the event's inputs say, but for those whose label is among `changes`."""
        values = [self._components[i].get("props", {}).get("value") for i in event["inputs"]]
        return [changes.get(label or "", value) for label, value in zip(self._labels(event), values, strict=True)]


class Visitor:
    """A browser with one page open."""

    def __init__(self, site: Site, client: httpx.AsyncClient, number: int, log: Log, dice: random.Random):
        self._site, self._client, self._log, self._dice = site, client, log, dice
        self.address = f"203.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}"
        self._session = uuid.uuid4().hex
        self._links, self._seen = ["?tab=gallery"], set()

    async def arrive(self) -> None:
        """Open the page: its text, and the gallery's front."""
        start = time.monotonic()
        await self._get("/", PAGE)
        self._log.times[PAGE].append(time.monotonic() - start)
        await self.browse()

    async def step(self) -> None:
        """One thing that visitors do."""
        await getattr(self, self._dice.choices(list(_SHARES), _SHARES.values())[0])()

    async def browse(self) -> None:
        """Follow a link of the gallery, and see the pictures there."""
        link = self._dice.choice(self._links)
        event = self._site.gallery
        body = {"fn_index": event["id"], "data": self._site.values(event), "session_hash": self._session}
        body |= {"event_data": {"query": link[1:]}, "trigger_id": event["targets"][0][0]}
        start = time.monotonic()
        answer = await self._client.post(f"{API}/run/predict", json=body, headers=self._headers)
        if not self._is_good(answer, GALLERY):
            return
        main = answer.json()["data"][1]
        self._log.times[GALLERY].append(time.monotonic() - start)
        if 'role="alert"' in main:
            self._log.trouble(GALLERY, re.sub(r"<[^>]*>", "", main))
        links = [unescape(found) for found in re.findall(r'href="(\?(?:u|tab=gallery)[^"]*)"', main)]
        self._links = links or ["?tab=gallery"]
        pictures = [unescape(found) for found in re.findall(r'src="(gallery-picture[^"]*)"', main)]
        new = [picture for picture in dict.fromkeys(pictures) if picture not in self._seen][:_PICTURES]
        self._seen.update(new)
        await asyncio.gather(*(self._see(picture) for picture in new))

    async def _see(self, picture: str) -> None:
        start = time.monotonic()
        if await self._get(f"/{picture}", PICTURE):
            self._log.times[PICTURE].append(time.monotonic() - start)

    async def explain(self) -> None:
        """Press Explain: on the picture that the page opens with, or on another example."""
        other = self._dice.random() < _OTHER_EXAMPLE
        changes = {"Picture": self._dice.choice(self._site.examples)} if other else {}
        event, start, mapped = self._site.explain, time.monotonic(), set()
        async for news in self._news(event, self._site.values(event, **changes), MAPS):
            if "Saliency map of" in news:
                mapped |= set(re.findall(r"Saliency map of (\S+),", news))
                if len(mapped) == len(self._site.networks) and "all" not in mapped:
                    mapped.add("all")
                    self._log.times[MAPS].append(time.monotonic() - start)
            for sentence in re.findall(r'lsd-error\\" role=\\"alert\\">([^<]+)', news):
                self._log.trouble(MAPS, sentence)
        self._log.times[ANSWER].append(time.monotonic() - start)
        start = time.monotonic()
        event = self._site.redraw
        async for _ in self._news(event, self._site.values(event), REDRAW):
            pass
        self._log.times[REDRAW].append(time.monotonic() - start)

    async def ascend(self) -> None:
        """Ask the endpoint for a picture of eight steps."""
        event, start = self._site.feature, time.monotonic()
        unit = f"class/{self._dice.randrange(16)}"
        values = ["demo:resnet", unit, "lsd", 8, self._dice.randrange(1000), "", None]
        good = False
        async for news in self._news(event, values, ASCENT):
            good = '"recipe_hash"' in news or good
        if good:
            self._log.times[ASCENT].append(time.monotonic() - start)

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-forwarded-for": self.address}

    async def _news(self, event: dict, values: list, kind: str) -> AsyncIterator[str]:
        body = {"fn_index": event["id"], "data": values, "session_hash": self._session}
        answer = await self._client.post(f"{API}/queue/join", json=body, headers=self._headers)
        if not self._is_good(answer, kind):
            raise _RefusedError
        address = f"{API}/queue/data?session_hash={self._session}"
        async with self._client.stream("GET", address, headers=self._headers) as stream:
            async for line in stream.aiter_lines():
                if not line.startswith("data:"):
                    continue
                if '"msg":"process_completed"' in line and '"success":false' in line:
                    self._log.trouble(kind, str(json.loads(line[5:])["output"].get("error")))
                    raise _RefusedError
                if '"msg":"unexpected_error"' in line:
                    self._log.trouble(kind, line[5:])
                    raise _RefusedError
                yield line
                if '"msg":"close_stream"' in line:
                    return

    async def _get(self, path: str, kind: str) -> bool:
        return self._is_good(await self._client.get(path, headers=self._headers), kind)

    def _is_good(self, answer: httpx.Response, kind: str) -> bool:
        if answer.status_code == 200:
            return True
        self._log.trouble(kind, f"{answer.status_code} {answer.text}")
        return False


class _RefusedError(Exception):
    """The step is over; the log says why."""


async def place_of_a_visitor(
    numbers: Iterator[int], site: Site, client: httpx.AsyncClient, log: Log, until: float, claims: dict
) -> None:
    """Visitors, one after the other, until the time is over."""
    dice = random.Random(next(numbers))
    await asyncio.sleep(dice.uniform(0, _LOOKS[1]))
    watchers = []
    while time.monotonic() < until:
        visitor, stays = Visitor(site, client, next(numbers), log, dice), True
        first = True
        while stays and time.monotonic() < until:
            step = asyncio.ensure_future(visitor.arrive() if first else visitor.step())
            leaves = not first and dice.random() < _LEAVES
            first = False
            try:
                await asyncio.wait_for(step, dice.uniform(0.05, 2) if leaves else None)
            except TimeoutError:
                log.left += 1
                watchers.append(asyncio.ensure_future(_held(visitor.address, log, claims)))
            except _RefusedError:
                pass
            except httpx.HTTPError as error:
                log.trouble("connection", f"{type(error).__name__} {error}")
            stays = not leaves
            if stays:
                await asyncio.sleep(max(min(dice.uniform(*_LOOKS), until - time.monotonic()), 0))
    await asyncio.gather(*watchers)


async def _held(address: str, log: Log, claims: dict) -> None:
    """Of somebody who had a place or waited for one when he left: how long it was still seen."""
    left = time.monotonic()
    had = address in claims["now"]
    while claims["on"] and claims["seen"] < left:
        await asyncio.sleep(0.02)
    if had or address in claims["now"]:
        while claims["on"] and address in claims["now"]:
            await asyncio.sleep(0.02)
        log.held.append(claims["seen"] - left)


async def ask_a_trifle(client: httpx.AsyncClient, waited: list[float], claims: dict) -> None:
    """Every 50 ms, something that the event loop answers alone: how long it takes, and who has a place."""
    while claims["on"]:
        start = time.monotonic()
        with contextlib.suppress(httpx.HTTPError):
            answer = await client.get(claims["path"])
            waited.append(time.monotonic() - start)
            claims["seen"] = time.monotonic()
            if claims["path"] == CLAIMS:
                claims["now"] = set(answer.json())
        await asyncio.sleep(0.05)


def memory(pid: int | None) -> float:
    """GB that the process has in memory; nan of one that runs elsewhere."""
    if pid is None:
        return float("nan")
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 2**20


def processor(pid: int | None) -> float:
    """Seconds that the process has computed; nan of one that runs elsewhere."""
    if pid is None:
        return float("nan")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def crowd(url: str, pid: int | None, visitors: int, seconds: float) -> dict:
    """Let them come; what was seen."""
    # Connections are given up before the server does it, after five seconds: a browser would ask again, httpx says ReadError.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=visitors, keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        site, log, waited = Site(url, (await client.get("/config")).json()), Log(), []
        has_claims = (await client.get(CLAIMS)).status_code == 200
        claims = {"on": True, "now": set(), "seen": 0.0, "path": CLAIMS if has_claims else f"{API}/app_id"}
        start, memories, computed = time.monotonic(), [memory(pid)], processor(pid)
        until, numbers = start + seconds, itertools.count(1)
        watcher = asyncio.ensure_future(ask_a_trifle(client, waited, claims))
        places = [
            asyncio.ensure_future(place_of_a_visitor(numbers, site, client, log, until, claims))
            for _ in range(visitors)
        ]
        while time.monotonic() < until:
            await asyncio.sleep(min(60, max(until - time.monotonic(), 0)))
            memories.append(memory(pid))
        _, late = await asyncio.wait(places, timeout=60)
        claims["on"], computed = False, processor(pid) - computed
        for place in late:
            place.cancel()
        await asyncio.gather(watcher, *places, return_exceptions=True)
    return {
        "networks": site.networks, "visitors": visitors, "seconds": seconds,
        "steps": {kind: described(times) for kind, times in sorted(log.times.items())},
        "errors": dict(log.errors.most_common()), "busy": dict(log.busy.most_common()),
        "never answered": len(late), "left": log.left, "place held after leaving, s": described(log.held),
        "memory at each minute, GB": [round(m, 3) for m in memories],
        "silence, s": described(waited), "processor, s": round(computed, 1), "load": os.getloadavg()[0],
    }  # fmt: skip


def described(times: list[float]) -> dict:
    """How many, and the median, the 95th percentile and the longest."""
    if not times:
        return {"number": 0}
    times = sorted(times)
    at = {"median": 0.5, "p95": 0.95, "longest": 1.0}
    return {"number": len(times)} | {name: round(times[int(q * (len(times) - 1))], 3) for name, q in at.items()}


def table(found: dict) -> str:
    """What was seen, for people."""
    lines = [
        f"{found['visitors']} visitors, {found['seconds']:.0f} s; networks: {', '.join(found['networks'])}; "
        f"load of the machine at the end: {found['load']:.1f}",
        f"{'seconds':34}{'number':>8}{'median':>9}{'95%':>9}{'longest':>9}",
    ]  # fmt: skip
    rows = found["steps"] | {
        "a trifle, every 50 ms": found["silence, s"],
        "place held after leaving": found["place held after leaving, s"],
    }
    for name, row in rows.items():
        shown = "".join(f"{row[key]:9.2f}" for key in ("median", "p95", "longest") if key in row)
        lines.append(f"{name:34}{row['number']:8}{shown}")
    lines.append(f"memory at each minute, GB: {', '.join(f'{m:.2f}' for m in found['memory at each minute, GB'])}")
    steps = sum(found["steps"][kind]["number"] for kind in (GALLERY, MAPS, ASCENT) if kind in found["steps"])
    lines.append(
        f"the server computed for {found['processor, s']:.0f} s, {found['processor, s'] / max(steps, 1):.2f} s a step"
    )
    lines.append(f"left in the middle: {found['left']}; never answered: {found['never answered']}")
    for what in ("errors", "busy"):
        lines.append(f"{what}: {sum(found[what].values())}")
        lines += [f"  {number:5} × {said}" for said, number in found[what].items()]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path, help="where the figures are written, too")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose page is started")
    parser.add_argument("--url", help="a page that runs already, instead; its memory and its line are not seen")
    parser.add_argument("--warm", type=float, default=20, help="seconds after the start until the visitors come")
    options = parser.parse_args()
    page = contextlib.nullcontext((options.url, None)) if options.url else started(options.root)
    with page as (url, pid):
        time.sleep(options.warm)
        found = asyncio.run(crowd(url, pid, options.visitors, options.seconds))
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
