"""Small pieces of HTML that several tabs show. Whatever is not known to be ours is escaped here."""

import base64
import html
from collections.abc import Iterable, Sequence

from lsd.catalogue import common_name
from lsd.features.judge import Verdict
from lsd.labels import short
from lsd.saliency.crosscheck import CrossCheck
from lsd.saliency.explain import Explanation
from lsd.saliency.maps import MapSettings, sign_instead
from lsd.saliency.methods import why_zero

OUTPUT_WORDS = {"logit": "logit", "log_odds": "log-odds", "probability": "probability"}


def escape(value: object) -> str:
    """A value as text that is safe between tags and in quoted attributes."""
    return html.escape(str(value), quote=True)


def data_url(kind: str, content: bytes) -> str:
    """A small file as an address, by its media type: "image/png"."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def status(message: str, *, error: bool = False, done: int = 0, total: int = 0) -> str:
    """The line that says what is going on; read out by screen readers when it changes."""
    bar = ""
    if total:
        share = 100 * min(done / total, 1)
        bar = (
            f'<div class="lsd-bar" role="progressbar" aria-label="Progress" aria-valuenow="{share:.0f}" aria-valuemin="0" '
            f'aria-valuemax="100"><div style="width:{share:.1f}%"></div></div>'
        )
    role, extra = ("alert", " lsd-error") if error else ("status", "")
    return f'<div class="lsd-status{extra}" role="{role}">{escape(message)}{bar}</div>'


def model_name(model: str) -> str:
    """A model by the name that people use, with its own below if that is another."""
    title = common_name(model)
    own = "" if title == model else f'<div class="lsd-note lsd-own-name">{escape(model)}</div>'
    return f'<div class="lsd-model">{escape(title)}</div>{own}'


def top_table(top: Iterable[tuple[int, str, float]], target: int | str | None = None) -> str:
    """The most probable classes with bars; the one that is asked about, by its index or its name, in bold.

    Args:
        top: index, name and probability of each.
    """
    rows = (
        f"<tr{' class=target' if target is not None and target in (index, name) else ''}>"
        f'<td><div class="fill" style="width:{100 * p:.1f}%"></div>'
        f'<span class="name">{escape(name)} <span class="lsd-note">{index}</span></span></td><td class="p">{p:.1%}</td></tr>'
        for index, name, p in top
    )
    return f'<table class="lsd-top">{"".join(rows)}</table>'


def says(verdict: Verdict, role: str, target: str | None) -> str:
    """`top_table` under the network's name, and whose network it is."""
    named = f'<b title="{escape(verdict.model)}">{escape(common_name(verdict.model))}</b>'
    bars = top_table(verdict.top, target) + names_note(verdict.note)
    return f'<div class="lsd-says">{named} <span class="lsd-note">{role}</span>{bars}</div>'


def names_note(note: str) -> str:
    """Why the names above are to be doubted (`ImageModel.names_note`); "" where they are not."""
    return f'<div class="lsd-note">{escape(note)}</div>' if note else ""


def facts(explanations: Sequence[Explanation], class_names: tuple[str, ...]) -> str:
    """What was differentiated, what it cost, and the numbers to judge the maps of an answer by."""
    found = [explanation.attribution for explanation in explanations]
    first, each = found[0], " each" if len(found) > 1 else ""
    lines = [
        f"{escape(describe_target(explanation, class_names))} = {explanation.attribution.scores[0].item():.3g}"
        for explanation in explanations
    ]
    lines.append(f"{_passes(first.passes)}{each} in {sum(e.seconds for e in explanations):.2f} s")
    if first.standard_error is not None:
        lines.append(f"standard error of the map: {', '.join(f'{a.standard_error[0].item():.0%}' for a in found)}")
    if first.completeness_gap is not None:
        lines.append(f"completeness gap: {', '.join(f'{a.completeness_gap[0].item():.2g}' for a in found)}")
    if first.settings.get("layer"):
        lines.append(f"layer: {escape(first.settings['layer'])}")
    if not all(a.values.any() for a in found):
        what = "a map" if each else "the map"
        lines.append(f"<b>{what} is zero everywhere</b>: {why_zero(first.method)}")
    return f'<div class="lsd-facts">{"<br>".join(lines)}</div>'


def empty_map(explanation: Explanation, maps: MapSettings) -> str:
    """Why there is nothing on the picture, and which sign shows something; "" where there is something."""
    other = sign_instead(explanation.attribution.values[0].numpy(), maps)
    if not other:
        return ""
    here, there = ("for", "against") if other == "negative" else ("against", "for")
    return (
        f'<div class="lsd-empty">Nothing here counts <b>{here}</b> the target: whatever is not zero counts {there} it. '
        f"Choose the sign “{there}”, or “both”.</div>"
    )


def _passes(count: int) -> str:
    return "1 pass" if count == 1 else f"{count} passes"


def describe_target(explanation: Explanation, class_names: tuple[str, ...]) -> str:
    """ "log-odds of tabby", "logit of tabby − logit of lynx", "log-odds of dog (118 classes)", "similarity to cup.png"."""
    target = explanation.attribution.target
    if target.kind == "similarity":
        return f"similarity to {target.source['file']}"
    if target.kind == "group":
        return f"log-odds of {target.group.name} ({len(target.group.members)} classes)"
    name = short(class_names[target.index])
    if target.kind == "within":
        return f"log-odds of {name} among the {len(target.group.members)} classes of {target.group.name}"
    if target.kind == "contrast":
        return f"logit of {name} − logit of {short(class_names[target.against])}"
    return f"{target.kind.replace('_', '-')} of {name}"


def badge(check: CrossCheck | None) -> str:
    """Whether Captum computes the same values."""
    if check is None:
        return ""
    if check.agrees is None:
        reason = escape(check.reason)
        return (
            f'<span class="lsd-badge lsd-none" title="{reason}">Captum: nothing to compare</span>'
            f'<div class="lsd-note">{reason}</div>'
        )
    kind, sign, word = ("lsd-good", "✓", "agrees") if check.agrees else ("lsd-bad", "✗", "differs")
    return (
        f'<span class="lsd-badge {kind}" title="largest difference, relative to the largest value; '
        f'tolerance {check.tolerance:g}">{sign} Captum {word}: {check.difference:.1e}</span>'
    )
