"""Small pieces of HTML that several tabs show."""

import html

from lsd.catalogue import common_name
from lsd.labels import short
from lsd.saliency.crosscheck import CrossCheck
from lsd.saliency.explain import Explanation
from lsd.saliency.maps import MapSettings, sign_instead

CSS = """
.gradio-container { max-width: 1500px !important; margin: 0 auto !important; }
.lsd-note { color: var(--body-text-color-subdued); font-size: .9rem; }
.lsd-status { min-height: 2.2rem; padding: .45rem .8rem; border-radius: 8px; background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); }
.lsd-error { background: #fdecea; border-color: #d9534f; color: #7a1f1b; }
.dark .lsd-error { background: #4a1d1a; color: #ffd9d6; }
.lsd-bar { height: 6px; border-radius: 3px; background: var(--border-color-primary); margin-top: .4rem; overflow: hidden; }
.lsd-bar > div { height: 100%; background: var(--color-accent); transition: width .2s; }
.lsd-facts { font-size: .85rem; line-height: 1.5; color: var(--body-text-color); }
.lsd-badge { display: inline-block; padding: .1rem .5rem; border-radius: 99px; font-size: .8rem; font-weight: 600; }
.lsd-good { background: #d8f0dc; color: #14532d; } .lsd-bad { background: #fbd5d0; color: #7a1f1b; }
.lsd-none { background: var(--border-color-primary); color: var(--body-text-color); }
.lsd-top { width: 100%; border-collapse: collapse; font-size: .85rem; margin: .3rem 0; }
.lsd-head { min-height: 6.2rem; }
.lsd-top, .lsd-top tr, .lsd-top td { border: none !important; }
.lsd-top td { padding: .12rem .3rem !important; position: relative; }
.lsd-top td.p { text-align: right; width: 4rem; font-variant-numeric: tabular-nums; }
.lsd-top .fill { position: absolute; inset: 2px auto 2px 0; background: var(--color-accent-soft); border-radius: 4px; z-index: 0; }
.lsd-top .name { position: relative; z-index: 1; }
.lsd-top tr.target .name { font-weight: 700; }
.lsd-model { font-weight: 700; overflow-wrap: anywhere; }
.lsd-own-name { font-size: .78rem; overflow-wrap: anywhere; line-height: 1.2; margin-bottom: .2rem; }
.lsd-acc { padding: .35rem .2rem; font-size: .85rem; line-height: 1.45; }
.lsd-acc-line { display: flex; justify-content: space-between; gap: .6rem; align-items: baseline; }
.lsd-acc-line > :last-child { white-space: nowrap; }
.lsd-acc-track { position: relative; height: 14px; margin: .15rem 0; border-radius: 4px; background: var(--border-color-primary); }
.lsd-acc-bar { height: 100%; border-radius: 4px; background: var(--color-accent); opacity: .75; }
.lsd-acc-range { position: absolute; top: 4px; height: 6px; border: solid var(--body-text-color); border-width: 0 2px;
  background: linear-gradient(var(--body-text-color), var(--body-text-color)) center / 100% 2px no-repeat; }
.lsd-mistakes .grid-wrap { height: auto !important; max-height: none !important; }
.lsd-mistakes .thumbnail-item { display: flex; flex-direction: column; height: auto !important; aspect-ratio: auto !important;
  background: none; }
.lsd-mistakes .thumbnail-item img { height: 116px !important; flex: none; }
.lsd-mistakes .caption-label { position: static !important; max-width: none !important; width: 100%; white-space: normal !important;
  margin: 0; padding: .3rem .2rem; border: none; box-shadow: none; background: none; font-size: .75rem; line-height: 1.3;
  text-align: center; overflow: visible !important; overflow-wrap: anywhere; }
@media (max-width: 900px) { .lsd-mistakes .grid-container { --grid-cols: 4 !important; } }
.lsd-pager { align-items: center; }
.lsd-reading { border-top: 1px solid var(--border-color-primary); padding-top: .6rem; }
.lsd-map-head { min-height: 4rem; display: flex; flex-direction: column; justify-content: end; font-size: .9rem;
  line-height: 1.35; }
.lsd-verdict { padding: .6rem .9rem; border-left: 4px solid var(--color-accent); background: var(--background-fill-secondary);
  border-radius: 6px; line-height: 1.5; }
.lsd-empty { padding: .4rem .7rem; border-left: 4px solid var(--color-accent); border-radius: 6px; font-size: .85rem;
  background: var(--background-fill-secondary); }
.lsd-intro li { margin: .4rem 0 .4rem 1.2rem; list-style: decimal; }
"""


def status(text: str, *, error: bool = False, done: int = 0, total: int = 0) -> str:
    """The line that says what is going on; read out by screen readers when it changes."""
    bar = ""
    if total:
        share = 100 * min(done / total, 1)
        bar = (
            f'<div class="lsd-bar" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" '
            f'aria-valuemax="100"><div style="width:{share:.1f}%"></div></div>'
        )
    role, extra = ("alert", " lsd-error") if error else ("status", "")
    return f'<div class="lsd-status{extra}" role="{role}">{html.escape(text)}{bar}</div>'


def model_name(model: str) -> str:
    """A model by the name that people use, with its own below if that is another."""
    title = common_name(model)
    own = "" if title == model else f'<div class="lsd-note lsd-own-name">{html.escape(model)}</div>'
    return f'<div class="lsd-model">{html.escape(title)}</div>{own}'


def top_table(explanation: Explanation) -> str:
    """The most probable classes with bars; the target's class in bold."""
    rows = []
    for index, name, p in explanation.top:
        target = ' class="target"' if index == explanation.attribution.target.index else ""
        rows.append(
            f'<tr{target}><td><div class="fill" style="width:{100 * p:.1f}%"></div>'
            f'<span class="name">{html.escape(name)} <span class="lsd-note">{index}</span></span></td>'
            f'<td class="p">{p:.1%}</td></tr>'
        )
    return f'<table class="lsd-top">{"".join(rows)}</table>'


def names_note(note: str) -> str:
    """Why the names above are to be doubted (`ImageModel.names_note`); "" where they are not."""
    return f'<div class="lsd-note">{html.escape(note)}</div>' if note else ""


def facts(explanation: Explanation, class_names: tuple[str, ...]) -> str:
    """What was differentiated, what it cost, and the numbers to judge the map by."""
    a = explanation.attribution
    target = html.escape(describe_target(explanation, class_names))
    lines = [f"{target} = {a.scores[0].item():.3g}", f"{_passes(a.passes)} in {explanation.seconds:.2f} s"]
    if a.standard_error is not None:
        lines.append(f"standard error of the map: {a.standard_error[0].item():.0%}")
    if a.completeness_gap is not None:
        lines.append(f"completeness gap: {a.completeness_gap[0].item():.2g}")
    if a.settings.get("layer"):
        lines.append(f"layer: {html.escape(a.settings['layer'])}")
    if not a.values.any():
        lines.append("<b>the map is zero everywhere</b>: the target does not react to any pixel")
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
    """ "log-odds of tabby", "logit of tabby − logit of lynx", "similarity to cup.png"."""
    target = explanation.attribution.target
    if target.kind == "similarity":
        return f"similarity to {target.source['file']}"
    name = short(class_names[target.index])
    if target.kind == "contrast":
        return f"logit of {name} − logit of {short(class_names[target.against])}"
    return f"{target.kind.replace('_', '-')} of {name}"


def badge(check: CrossCheck | None) -> str:
    """Whether Captum computes the same values."""
    if check is None:
        return ""
    if check.agrees is None:
        reason = html.escape(check.reason)
        return (
            f'<span class="lsd-badge lsd-none" title="{reason}">Captum: nothing to compare</span>'
            f'<div class="lsd-note">{reason}</div>'
        )
    kind, sign, word = ("lsd-good", "✓", "agrees") if check.agrees else ("lsd-bad", "✗", "differs")
    return (
        f'<span class="lsd-badge {kind}" title="largest difference, relative to the largest value; '
        f'tolerance {check.tolerance:g}">{sign} Captum {word}: {check.difference:.1e}</span>'
    )
