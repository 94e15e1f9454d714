"""The report: everything that is told of one picture's reasons, as one HTML file that needs nothing else.

Made from a manifest's record and its pictures, pure. Names of classes and models, files and units come from strangers and are
escaped.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from lsd.reasons import words
from lsd.reasons.graph import graph_of
from lsd.reasons.sentence import percent

Pictures = Mapping[tuple, bytes]

_STYLE = Path(__file__).with_name("report.css").read_text("utf-8")


def report(record: dict, pictures: Pictures) -> str:
    """A whole page.

    Args:
        record: a manifest of reasons.
        pictures: WebP by (model's number, what, …), as `lsd.reasons.bundle.pictures` names them; any may be missing.
    """
    title = f"Why? {record['results'][0]['sentence']['decision']}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        f'initial-scale=1"><meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>body '
        f"{{ margin: 0; }}</style></head><body>{fragment(record, pictures)}</body></html>\n"
    )


def fragment(record: dict, pictures: Pictures) -> str:
    """The same as an element with its own style, for a page that has others, such as a notebook's."""

    def shown(network: int, unit: str) -> list[str]:
        return [_url(pictures[key]) for what in ("unit", "map") if (key := (network, what, unit)) in pictures]

    several = len(record["results"]) > 1
    body = "".join(_model(n, result, pictures) for n, result in enumerate(record["results"]))
    graph = f"<section>{graph_of(record['matched'], shown)}</section>" if "matched" in record else ""
    head = f"<h1>{escape(record['image']['file'])}, by {len(record['results'])} networks</h1>" if several else ""
    text = f"{head}{graph}{body}{_foot(record)}"
    return f'<div class="lsd-reasons"><style>{_STYLE}</style>{text}</div>'


def _model(n: int, result: dict, pictures: Pictures) -> str:
    def group(title: str, about: str, cards: Sequence[str]) -> str:
        return f'<h3>{title}</h3><p class="soft">{about}</p><div class="cards">{"".join(cards)}</div>' if cards else ""

    layer = escape(result["layer"])
    largest = max([1e-9, *(abs(one["part"]) for one in (*result["groups"], *result["channels"]))])
    reasons = {
        key: [_card(n, one, result, pictures, largest) for one in result[key]]
        for key in ("groups", "channels", "against")
    }
    groups = f"Groups of channels of {layer} that speak for it at the same places: {percent(result['explained'])} of all that does."
    kind = words.kind(result)
    channels = f"Of {result['layer_channels']} {kind}s of {layer}, those that speak most for it."
    if any((n, "unit", one["unit"]) in pictures for one in result["channels"]):
        channels += " Left what the network looks for, right where it finds it."
    return f"""<section>
<div class="head">{_image(pictures, (n, "photo"), "The picture")}<div>
<h2>{escape(result["model"])}</h2>{_sentence(n, result, pictures)}{_top(result)}</div></div>
{_tests(result)}
{group("A few things", groups, reasons["groups"])}
{group(f"{kind.capitalize()} by {kind}", channels, reasons["channels"])}
{group("Against it", "What speaks most against it.", reasons["against"])}
{_missing(n, result, pictures)}
</section>"""


def _sentence(n: int, result: dict, pictures: Pictures) -> str:
    told = result["sentence"]
    things = []
    for thing in told["things"]:
        name = f"perhaps “{escape(thing['text'])}”" if thing["guessed"] else escape(thing["text"])
        shown = _image(pictures, (n, "unit", thing["unit"]), thing["unit"])
        things.append(f"{shown}{name} ({percent(thing['part'])})")
    if not things:
        return f'<p class="decision">{escape(told["text"])}</p>'
    rest = f", and {percent(told['rest'])} in others" if told["rest"] >= 0.005 else ""
    return f'<p class="decision"><b>{escape(told["decision"])}</b>: {", ".join(things)}{rest}.</p>'


def _top(result: dict) -> str:
    rows = "".join(
        f'<tr><td class="fill" style="background-size: {100 * one["probability"]:.1f}% 100%">{escape(one["name"])}</td>'
        f"<td>{percent(one['probability'])}</td></tr>"
        for one in result["top"]
    )
    note = '<p class="soft">The class names are assumed from their number.</p>' if result.get("names_assumed") else ""
    return f"<table>{rows}</table>{note}"


def _tests(result: dict) -> str:
    lines = words.test(result)
    if not lines:
        return ""
    steps = "".join(
        f"<li{' class=changed' if one['without_all_so_far']['changed'] else ''}>{k}: "
        f"{escape(one['without_all_so_far']['first']['name'])} {percent(one['without_all_so_far']['first']['probability'])}</li>"
        for k, one in enumerate(result["channels"], 1)
    )
    return (
        f"<h3>Put to the test</h3>{''.join(f'<p>{escape(line)}</p>' for line in lines)}"
        f'<p class="soft">What it says with the first {words.kind(result)}s off:</p><ol class="steps">{steps}</ol>'
    )


def _card(n: int, one: dict, result: dict, pictures: Pictures, largest: float) -> str:
    unit = one["unit"]
    tested = ""
    if "without" in one:
        idle = ' class="warn"' if words.idle(one, result) else ""
        tested = f"<p{idle}>{escape(words.without(one, result))}</p><p class=soft>{escape(words.also(one))}</p>"
    bar = f'<div class="bar"><div style="width: {100 * min(1, abs(one["part"]) / largest):.0f}%"></div></div>'
    return (
        f'<article class="card" title="{escape(unit)}">{_pair(pictures, (n, "unit", unit), (n, "map", unit))}{bar}'
        f"<p><b>{percent(one['part'])}</b> {escape(words.name(unit, result['layer']))}{_guess(one)}</p>{tested}{_dead(one)}"
        f"{_patches(n, one, pictures)}</article>"
    )


def _guess(one: dict) -> str:
    return f" <i>perhaps “{escape(one['guess'])}”</i>" if one.get("guess") else ""


def _dead(one: dict) -> str:
    return (
        '<p class="warn">No gradient reaches its picture, which shows nothing.</p>'
        if one.get("picture", {}).get("dead")
        else ""
    )


def _missing(n: int, result: dict, pictures: Pictures) -> str:
    if "missing" not in result:
        return ""
    told = result["missing"]
    name = escape(told["class"]["name"])
    cards = "".join(
        f'<article class="card" title="{escape(one["unit"])}">'
        f"{_pair(pictures, (n, 'unit', one['unit']), (n, 'lacking', one['unit']))}"
        f"<p><b>{escape(words.name(one['unit'], result['layer']))}</b>{_guess(one)}</p>"
        f"<p>{escape(words.missing(one))}</p>{_dead(one)}{_patches(n, one, pictures)}</article>"
        for one in told["channels"]
    )
    about = (
        "What its own picture has and this photo lacks: left what the channel looks for, right where the class's picture has it."
        if cards else "Nothing that its own picture has is missing here."
    )  # fmt: skip
    own = _image(pictures, (n, "class"), told["class"]["name"])
    return (
        f'<h3>Why not {name}?</h3><p class="soft">{about}</p><div class="cards"><article class="card">{own}'
        f"<p>{name}, as this network would have it</p></article>{cards}</div>"
    )


def _pair(pictures: Pictures, *keys: tuple) -> str:
    shown = "".join(_image(pictures, key, text) for key, text in zip(keys, ("what", "where"), strict=True))
    return f'<div class="pair">{shown}</div>' if shown else ""


def _patches(n: int, one: dict, pictures: Pictures) -> str:
    shown = [_image(pictures, (n, "patch", one["unit"], k), "from a photo") for k in range(one.get("patches", 0))]
    return f'<div class="patches">{"".join(shown)}</div>' if shown else ""


def _image(pictures: Pictures, key: tuple, text: str) -> str:
    if key not in pictures:
        return ""
    return f'<img src="{_url(pictures[key])}" alt="{escape(text)}">'


def _url(content: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def _foot(record: dict) -> str:
    weights = "; ".join(
        f"{escape(result['model'])} {escape(str(result['weights'].get('digest', ''))[:16])}"
        for result in record["results"]
    )
    made = record["environment"]
    image = record["image"]
    return (
        f'<p class="soft">{escape(image["file"])}, SHA-256 {escape(image["sha256"][:16])}…; weights: {weights}; shares by '
        f"{escape(record['request']['method'])}; LSD {escape(made['lsd'])}, torch {escape(made['torch'])}. The numbers are "
        "made again by <code>python -m lsd reasons --from manifest.json</code>. A name after “perhaps” is a guess: what other "
        "networks see in the unit's picture.</p>"
    )
