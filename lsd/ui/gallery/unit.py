"""One picture's own page: what it is, how far to believe it, what belongs to it, and how to make it again."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gallery.filters import Filters
from gallery.queries import Entry, Gallery
from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.features.judge import Verdict
from lsd.features.notes import DEAD
from lsd.features.recipes import RECIPES
from lsd.labels import short
from lsd.provenance import slug
from lsd.said import NOTHING
from lsd.sayings import texts
from lsd.ui.gallery import again
from lsd.ui.gallery.address import CLASS, COMPARE, MAX_MODELS, UNIT, View
from lsd.ui.gallery.classes import classes_of
from lsd.ui.gallery.exemplars import exemplars_section
from lsd.ui.gallery.html import (
    ASSUMED,
    alt,
    called,
    called_model,
    cards,
    count,
    layer_name,
    link,
    made,
    message,
    name_assumed,
    section,
)
from lsd.ui.gallery.pictures import picture_address
from lsd.ui.gallery.plot import trace_plot
from lsd.ui.gallery.weights import NONE, Standing, instead, standing
from lsd.ui.shared.markup import OUTPUT_WORDS, data_url, escape, says

SIDE = 448  # pixels, at which the picture is shown
NEIGHBOURS, OTHERS = 12, 24

_REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def unit_page(gallery: Gallery, entry: Entry) -> str:
    """The page of a row."""
    trouble, row = "", {}
    try:
        row = gallery.details(entry)
    except LSDError as error:  # the index still tells most of it
        trouble = f'<p class="lsd-trouble" role="note">{escape(error)}</p>'
    neighbours = gallery.neighbours(entry, NEIGHBOURS)
    found = standing(entry)
    return (
        _way_back(entry, neighbours)
        + f'<article class="lsd-g-unit"><div class="lsd-g-left">{_picture(entry)}{_downloads(entry, row)}'
        f'</div><div class="lsd-g-right">{_title(entry)}{trouble}{_state(entry, row)}{_actions(gallery, entry, row, found)}'
        f"{_judgement(entry, row)}</div></article>"
        + exemplars_section(gallery, entry, row)
        + _belongings(gallery, entry, neighbours)
        + section("Make it again", _command(entry, row, found))
        + section("Where it comes from", _provenance(entry, row))
        + section("How to cite it", _code(again.citation(entry)))
    )


def missing(unit_id: str) -> str:
    """What stands above the front where an address names no row."""
    return message(
        f"There is no picture “{escape(unit_id[:200])}” in this gallery. Search for it, or look around below."
    )


def _way_back(entry: Entry, neighbours: Sequence[Entry]) -> str:
    place = (entry.index, entry.unit)
    before = [n for n in neighbours if (n.index, n.unit) < place][-1:]
    after = [n for n in neighbours if (n.index, n.unit) > place][:1]
    steps = "".join(
        link(View(UNIT, unit_id=n.unit_id), shown, attributes=f'rel={rel} title="{escape(n.title)}"')
        for found, shown, rel in ((before, "‹ Before", "prev"), (after, "After ›", "next"))
        for n in found
    )
    back = link(View(), "‹ Back to the gallery", css="lsd-g-back", attributes="data-back")
    return f'<nav class="lsd-g-way" aria-label="Gallery">{back}<span>{steps}</span></nav>'


def _picture(entry: Entry) -> str:
    if entry.status == "failed":
        return f'<div class="lsd-g-large lsd-g-missing" role="img" aria-label="{escape(alt(entry))}">no picture</div>'
    source = escape(picture_address(entry.unit_id))
    return f'<img class="lsd-g-large" src="{source}" alt="{escape(alt(entry))}" width="{SIDE}" height="{SIDE}">'


def _downloads(entry: Entry, row: Mapping[str, Any]) -> str:
    name = slug(entry.unit_id)[:150]
    files = []
    if entry.status != "failed":
        source = escape(picture_address(entry.unit_id))
        files.append(f'<a class="lsd-g-button" download="{escape(name)}.webp" href="{source}">Picture (WebP)</a>')
    if row:
        data = data_url("application/json", json.dumps(dict(row), indent=1, default=str).encode())
        files.append(f'<a class="lsd-g-button" download="{escape(name)}.json" href="{data}">Its row (JSON)</a>')
    files.append('<button class="lsd-g-button" type="button" data-copy="address">Copy link</button>')
    return f'<div class="lsd-g-buttons">{"".join(files)}</div>'


def _title(entry: Entry) -> str:
    names = f'<p class="lsd-g-synonyms">{escape(entry.class_name)}</p>' if entry.class_name != entry.title else ""
    names += f'<p class="lsd-note">{ASSUMED}</p>' if name_assumed(entry) else ""
    of_model = View(filters=Filters(model=entry.model))
    where = " · ".join(
        (
            link(of_model, called_model(entry.model)),
            link(of_model.with_filters(layer=entry.layer), escape(layer_name(entry.layer))),
            f"<code>{escape(entry.unit)}</code>",
            escape(made(entry)),
        )
    )
    return f'<h2 tabindex="-1">{escape(entry.title)}</h2>{names}<p class="lsd-g-where">{where}</p>'


def _state(entry: Entry, row: Mapping[str, Any]) -> str:
    """Dead and failed said plainly, what else the row notes, and pictures on which hardly anything is to be seen."""
    said, notes = "", list(row.get("notes") or [])
    if entry.status == "dead":
        notes = notes or [DEAD]  # rows of before do not say why
    elif entry.status == "failed":
        said = f"This picture failed: {entry.error or 'nothing says why.'}"
    elif entry.status != "ok":
        said = f"Its status is “{entry.status}”."
    elif entry.flat == "grey":
        said = "Hardly anything formed: the picture stayed nearly grey."
    elif entry.flat == "saturated":
        said = "Most of it is at the end of the colour range."
    return "".join(f'<p class="lsd-trouble" role="note">{escape(one)}</p>' for one in (said, *notes) if one)


def _actions(gallery: Gallery, entry: Entry, row: Mapping[str, Any], found: Standing) -> str:
    """Where the row's network can be run: only what can be; else the nearest thing that can."""
    why = f"<details><summary>Why</summary>{escape(found.why)}</details>" if found.why else ""
    said = f'<div class="lsd-g-weights" role="note">{escape(found.said)}{why}</div>' if found.said else ""
    if found.state == NONE:
        there = instead(gallery, entry)
        if there is None:
            return said
        words, view = there
        return said + f'<div class="lsd-g-buttons">{link(view, escape(words), css="lsd-g-button lsd-g-primary")}</div>'
    said_of_it = (again.said_of(row) or {}).get(entry.model, NOTHING)
    live = again.live_address(entry, again.recipe_of(row) if row else None, said_of_it)
    primary = " lsd-g-primary" if found.can_run else ""
    actions = [f'<a class="lsd-g-button{primary}" href="{escape(live)}">Open in the live tab</a>']
    if saliency := again.saliency_address(entry, said_of_it, by_index=entry.class_name in classes_of(gallery).shared):
        actions.append(f'<a class="lsd-g-button" href="{escape(saliency)}">See where your image shows this</a>')
    if reasons := again.reasons_address(entry, said_of_it):
        actions.append(f'<a class="lsd-g-button" href="{escape(reasons)}">Show it in your picture</a>')
    return f'{said}<div class="lsd-g-buttons">{"".join(actions)}</div>'


def _judgement(entry: Entry, row: Mapping[str, Any]) -> str:
    """In words, then bar by bar, what the networks take the picture for; and the numbers beside."""
    assumed = entry.names_assumed
    own = _verdict(entry.model, row.get("own_top"), assumed)
    others = [_verdict(one.get("model", ""), one.get("top"), assumed) for one in row.get("verifiers") or []]
    target = entry.title if entry.class_name else None
    said = "".join(
        says(verdict, role, target)
        for verdict, role in [(own, "its own network"), *((one, "another network") for one in others)]
        if verdict.top
    )
    words = _agreement(entry, own, others)
    plot = trace_plot(row.get("trace") or [], entry.steps or 1, _plot_label(row.get("trace") or []))
    return (
        (f'<p class="lsd-verdict">{escape(words)}</p>' if words else "")
        + _numbers(entry)
        + (f'<div class="lsd-g-says">{said}</div>' if said else "")
        + (f'<div class="lsd-g-curve"><h3>The score, step by step</h3>{plot}</div>' if plot else "")
    )


def _verdict(model: str, top: Sequence[Mapping[str, Any]] | None, assumed: Sequence[str]) -> Verdict:
    rows = ((t["index"], str(t["name"]), t["probability"]) for t in top or [])
    return Verdict(str(model), tuple(row for row in rows if row[2] is not None), ASSUMED if model in assumed else "")


def _agreement(entry: Entry, own: Verdict, others: Sequence[Verdict]) -> str:
    """Who recognises the class, in one or two sentences; "" where there is none to recognise."""
    if not entry.class_name or entry.status != "ok":
        return ""
    words = []
    if own.top:
        _, name, p = own.top[0]
        is_it = name == short(entry.class_name) or name == entry.title
        words.append(f"Its own network takes it for {name} ({p:.0%}){'' if is_it else f', not {entry.title}'}.")
    if entry.agreement is not None and others:
        yes = round(entry.agreement * len(others))
        networks = "network says" if yes == 1 else "networks say"
        words.append(f"{yes or 'None'} of {len(others)} other networks {'says' if yes == 1 else 'say'} {entry.title}.")
        if len(others) == 1:
            words[-1] = f"The other {networks if yes else 'network does not say'} {entry.title}."
    elif not others:
        words.append("No other network was asked.")
    return " ".join(words)


def _numbers(entry: Entry) -> str:
    facts = []
    if entry.score is not None and entry.status == "ok":
        facts.append(("Score", f"{entry.score:.3g}", "the unit's answer to the finished picture, seen whole"))
    if entry.own_probability is not None:
        facts.append(("Own probability", f"{entry.own_probability:.1%}", "of the unit's class, by its own network"))
    if entry.fine_energy is not None:
        note = "detail finer than two pixels a side; in photos 1 to 5%"
        facts.append(("Fine detail", f"{entry.fine_energy:.1%}", note))
    if entry.contrast is not None:
        facts.append(("Contrast", f"{entry.contrast:.2f}", "standard deviation of its colours; in photos .15 to .32"))
    if entry.clipped is not None:
        facts.append(("Black or white", f"{entry.clipped:.1%}", "of its numbers; in photos 0 to 21%"))
    if entry.spread is not None:
        note = "cosine distance of the seeds' pictures at the last block: 0 is all alike"
        facts.append(("Seeds differ by", f"{entry.spread:.2f}", note))
    items = "".join(f'<div title="{escape(why)}"><dt>{name}</dt><dd>{value}</dd></div>' for name, value, why in facts)
    return f'<dl class="lsd-g-numbers">{items}</dl>' if items else ""


def _plot_label(trace: Sequence[float | None]) -> str:
    known = [value for value in trace if value is not None]
    return f"The score rises from {known[0]:.3g} to {known[-1]:.3g}" if known else ""


def _belongings(gallery: Gallery, entry: Entry, neighbours: Sequence[Entry]) -> str:
    """Other seeds and recipes, the same class elsewhere, and what lies beside it."""
    variants = gallery.variants(entry)
    elsewhere = gallery.same_class(entry) if entry.class_name else []
    strip = "lsd-g-strip"
    parts = section(
        "Other seeds and recipes", cards(gallery, variants[:OTHERS], lambda e: [made(e)], css=strip) if variants else "",
        "The same unit of the same network: what the pictures share is the unit's, what differs is chance or recipe.",
    )  # fmt: skip
    if elsewhere:
        names = (entry.model, *elsewhere.models)[:MAX_MODELS]
        key = classes_of(gallery).key(entry.class_name, entry.synset)
        compare = View(COMPARE, models=names, classes=(key,))
        more = (
            '<p class="lsd-g-more">'
            + link(View(CLASS, classes=(key,)), f"All {count(len(elsewhere) + 1, 'model')} with it")
            + link(compare, "Compare models, with more classes")
            + "</p>"
        )
        shown = [entry, *elsewhere[: OTHERS - 1]]
        grid = cards(gallery, shown, lambda e: [common_name(e.model), made(e)], css=strip)
        parts += section(f"{entry.title} across models", grid + more)
    if neighbours:
        layer = View(filters=Filters(model=entry.model, layer=entry.layer, kind=entry.kind))
        where = "classes" if not entry.layer else f"{entry.kind}s of {entry.layer}"
        grid = cards(gallery, neighbours, lambda e: [called(e)[0]], css=strip)
        more = f'<p class="lsd-g-more">{link(layer, f"All {escape(where)} in {escape(common_name(entry.model))}")}</p>'
        parts += section("Beside it in the layer", grid + more)
    return parts


def _command(entry: Entry, row: Mapping[str, Any], found: Standing) -> str:
    if not row:
        return ""
    recipe = again.recipe_of(row)
    if recipe is None:
        said = "This row's recipe cannot be read, or is not the one whose hash it gives, so no command is given."
        return f'<p class="lsd-note">{said}</p>'
    told = again.said_of(row)
    if told is None:
        return '<p class="lsd-note">What was said of its network cannot be read, so no command is given.</p>'
    note = (
        "It makes the same picture; the last bits depend on the machine, on the number of threads, and on what is made in the "
        "same batch. <code>python -m precompute verify</code> makes whole batches again, bit for bit."
    )
    if not found.can_run:
        folder = "" if ":" in entry.model else f", as a folder {escape(entry.model)} under LSD_MODEL_PATH"
        note = f"For whoever has these weights{folder}. {note}"
    return _code(again.command(entry, recipe, told)) + f'<p class="lsd-note">{note}</p>'


def _code(content: str) -> str:
    return (
        f'<div class="lsd-g-code"><pre class="lsd-code">{escape(content)}</pre>'
        '<button class="lsd-g-button" type="button" data-copy="code">Copy</button></div>'
    )


def _provenance(entry: Entry, row: Mapping[str, Any]) -> str:
    repo = escape(entry.weights_repo)
    if entry.weights_source in ("hub", "hf-hub", "timm") and _REPO.fullmatch(entry.weights_repo):
        repo = f'<a href="https://huggingface.co/{repo}" rel="noopener noreferrer" target="_blank">{repo}</a>'
    revision = f" at {escape(entry.weights_revision[:12])}" if entry.weights_revision else ""
    lines = [
        ("Weights", f"{escape(entry.weights_source)}: {repo}{revision}"),
        ("Weights' digest", f"<code>{escape(entry.weights_digest)}</code>" if entry.weights_digest else ""),
        ("File's SHA-256", f"<code>{escape(entry.weights_sha256)}</code>"),
        ("Said of the networks", _told(row)),
        ("Recipe", _recipe(entry, row)),
        ("Steps and seed", escape(f"{entry.steps} steps, seed {entry.seed}")),
        ("Batch", escape(f"place {entry.batch_place} of {entry.batch_size} pictures made together")),
        (
            "Picture",
            escape(f"{entry.width} × {entry.height} pixels, WebP; made {entry.created or 'nobody knows when'}"),
        ),
        ("Pixels' SHA-256", f"<code>{escape(entry.pixels_sha256)}</code>"),
        ("Made with", escape(_environment(row.get("environment")))),
        ("Id", f"<code>{escape(entry.unit_id)}</code>"),
    ]
    return (
        '<table class="lsd-g-table">'
        + "".join(f"<tr><th>{k}</th><td>{v}</td></tr>" for k, v in lines if v)
        + "</table>"
    )


def _told(row: Mapping[str, Any]) -> str:
    """What the networks do not say of themselves; "" where nothing was."""
    lines = [
        f"{escape(name)}: {', '.join(escape(value) for values in texts(said).values() for value in values)}"
        for name, said in (again.said_of(row) or {}).items()
    ]
    return "<br>".join(lines)


def _recipe(entry: Entry, row: Mapping[str, Any]) -> str:
    recipe = again.recipe_of(row) if row else None
    named = f"{escape(entry.recipe)} <code>{escape(entry.recipe_hash)}</code>"
    if recipe is None:
        return named
    base, changes = again.settings(recipe)
    differs = ", ".join(f"{k}={v}" for k, v in changes.items())
    whole = json.dumps(recipe.to_dict(), indent=1)
    about = f"“{base}” as shipped" if not changes else f"“{base}” with {differs}"
    output = (
        f"; it raises the {OUTPUT_WORDS.get(recipe.output, recipe.output.replace('_', ' '))}"
        if entry.class_name
        else ""
    )
    about_base = RECIPES[base].about if not changes else ""
    note = f'<p class="lsd-note">{escape(about_base)}</p>' if about_base else ""
    return (
        f"{named}: {escape(about + output)}{note}<details><summary>All settings</summary>"
        f'<pre class="lsd-code">{escape(whole)}</pre></details>'
    )


def _environment(value: Any) -> str:
    """Versions and device in one line; "" for what cannot be read."""
    try:
        found = json.loads(value or "{}")
        return ", ".join(f"{name} {found[name]}" for name in sorted(found))
    except (ValueError, TypeError, RecursionError):
        return ""
