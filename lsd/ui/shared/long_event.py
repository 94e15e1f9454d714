"""A handler that works long, as an event of the page: closing it returns at once, and its status line tells how far it is."""

import functools
import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import gradio as gr

from lsd.ui.shared import markup, visitors
from lsd.ui.shared.job import Progress
from lsd.ui.shared.jobs import follow
from lsd.ui.shared.line import Waiting

# How such events are registered. How many run at a time is `lsd.ui.shared.jobs`' business, so Gradio holds none of them back.
LONG = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}

# Whoever asks for long work, by a button, an address or by choosing a picture, changes a number, and the change begins the work: so
# the click that cancels what is under way does not cancel what it asks for. In the queue, since outside it the page is not told
# that a state has changed; of numbers that were not there before, since two that ask at once both count; and multiple, since
# Gradio drops an event whose last one is still on its way, so that the first view could swallow a click.
ASKING = {
    "api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None, "trigger_mode": "multiple"
}  # fmt: skip
_NUMBERS = itertools.count(1)

_WORTH_TELLING = 3  # seconds: less is over before it is read


def next_number() -> int:
    """A number that was not there before."""
    return next(_NUMBERS)


def long_event(
    handler: Callable[..., Iterator[dict]],
    status: gr.HTML,
    kind: str,
    *,
    unless: Callable[..., bool] = lambda *values: False,
) -> Callable[..., AsyncIterator[dict]]:
    """The event's function, for a generator function that yields updates by component.

    Args:
        status: where it is told how far the work is; one of the event's outputs.
        kind: by which the log tells it from other jobs.
        unless: of the same arguments; as soon as it is true, the work is stopped and the event is over.
    """

    @functools.wraps(handler)
    async def event(*values):
        yield {status: gr.skip()}  # an event that says nothing at all would empty its outputs
        async for news in follow(lambda: handler(*values), kind, owner=visitors.of_page()):
            if unless(*values):
                return
            if isinstance(news, Waiting | Progress):
                text = told(news)
                yield {status: text or gr.skip()}
            else:
                yield {status: gr.skip()} if news is None else news

    return event


def told(news: Waiting | Progress) -> str:
    """The status line; "" where what the handler has said last says more."""
    if isinstance(news, Waiting):
        return markup.status(_in_line(news))
    if not news.what:
        return ""
    left = f", about {duration(news.seconds)} left" if (news.seconds or 0) >= _WORTH_TELLING else ""
    if not news.total:
        return markup.status(f"{news.what}{left} …")
    return markup.status(f"{news.what}: {news.done} of {news.total} passes{left}", done=news.done, total=news.total)


def _in_line(news: Waiting) -> str:
    jobs = "1 job is" if news.before == 1 else f"{news.before} jobs are"
    if news.addition:
        return f"{jobs} before {news.addition} …"
    when = "" if news.seconds is None else f"; yours begins in about {duration(max(news.seconds, 1))}"
    return f"{jobs} before yours{when} …"


def duration(seconds: float) -> str:
    """ "40 s", "3 min"."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
