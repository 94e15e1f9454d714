"""The Mistakes tab in words and HTML: captions, bars, and the sentences that say what the maps and the probe found."""

from collections.abc import Sequence
from urllib.parse import urlencode

from lsd import labels
from lsd.catalogue import common_name
from lsd.evaluation.fooled_cases import CAUSES, why
from lsd.evaluation.labelled import ComposedItem, FileItem, LabelledSet
from lsd.evaluation.mistakes import Prediction, ScanResult, confusions
from lsd.evaluation.probe import ProbeResult
from lsd.saliency.methods import METHODS
from lsd.ui.mistakes.search import Search
from lsd.ui.mistakes.views import Case, Reading, shares
from lsd.ui.shared.examples import examples
from lsd.ui.shared.markup import escape, model_name, names_note, top_table

TITLES = {"predicted": "the wrong class", "true": "the true class", "contrast": "wrong − true"}
_UNITS = {
    "model": "The three maps of a model share one scale; strengths do not compare between rows.",
    "all": "All maps share one scale, though the raw strengths of two networks mean different things.",
    "rank": "Every map shows the rank of its pixels, not their strength.",
}


INTRO = """<h2>Which pictures do models get wrong, and what did they go by?</h2>"""
LETTERS = "ABC"
NO_SQUARES = "No square of this picture stands out, so there is nothing to guess here: its maps are below."
ALL_GUESSED = "That was the last of those listed; other filters have others."
YOURS_FIRST = "Upload a picture, choose what it truly is, and press Find the mistakes."


def summary(result: ScanResult, pictures: LabelledSet) -> str:
    """How many mistakes there are, and what could not be read."""
    wrong = int((result.wrong_by > 0).sum())
    who = "At least one model" if len(result.models) > 1 else common_name(result.models[0])
    found = f"{who} is wrong about {wrong} of the {len(result.items)} pictures of {result.name}."
    return " ".join([found, *_unread(result), *pictures.notes])


def own_summary(result: ScanResult) -> str:
    """What the models make of the visitor's own picture."""
    if not result.items:
        return " ".join(_unread(result))
    p = result.prediction(int(result.wrong[:, 0].argmax()), 0)
    return wrong_count(p, len(result.models)).replace("this picture", "your picture")


def _unread(result: ScanResult) -> list[str]:
    unread = result.unreadable
    return [f"Not readable, and left out: {len(unread)}; the first: {unread[0].reason}"] if unread else []


def wrong_count(p: Prediction, total: int) -> str:
    """ "1 of 2 models is wrong about this picture." """
    if not p.wrong_by:
        who = common_name(p.model) if total == 1 else f"All {total} models"
        verb = "is" if total == 1 else "are"
        return f"{who} {verb} right about this picture: {p.true_name}. Instead of a wrong class the maps show the runner-up."
    if total == 1:
        return f"{common_name(p.model)} is wrong about this picture."
    return f"{p.wrong_by} of {total} models {'is' if p.wrong_by == 1 else 'are'} wrong about this picture."


def caption(p: Prediction, *, with_model: bool, with_cause: bool = True) -> str:
    """Under a picture of the list, in HTML: the answer, the truth, whose answer it is, and what fooled the model."""
    model = f'<span class="lsd-note">{escape(common_name(p.model))}</span>' if with_model else ""
    cause = f'<span class="lsd-note">fooled by {CAUSES[p.evidence.cause]}</span>' if p.evidence and with_cause else ""
    return (
        f"<span><b>{escape(p.predicted_name)}</b> {_percent(p.probability)}</span>"
        f"<span>is {escape(p.true_name)}</span>{model}{cause}"
    )


def accuracies(result: ScanResult) -> str:
    """A bar for each model with Wilson's interval, and its most frequent confusion."""
    rows = []
    for k, model in enumerate(result.models):
        a = result.accuracy(model)
        value, low, high = (100 * v if v == v else 0 for v in (a.value, a.low, a.high))
        often = ""
        if found := confusions(result, model):
            true, predicted, n = found[0]
            names = result.class_names[k]
            often = f"; most often {labels.short(names[true])} taken for {labels.short(names[predicted])} ({n} ×)"
        rows.append(
            '<div class="lsd-acc" style="flex: 1 1 200px"><div class="lsd-acc-line" style="flex-wrap: wrap; gap: 0 .6rem">'
            f'<span class="lsd-model" title="{escape(model)}">{escape(common_name(model))}</span>'
            f"<span><b>{value:.1f}%</b> right <span class='lsd-note'>({low:.1f}–{high:.1f})</span></span></div>"
            f'<div class="lsd-acc-track" role="img" aria-label="{value:.1f}% right, 95% interval {low:.1f} to {high:.1f}%">'
            f'<div class="lsd-acc-bar" style="width:{value:.2f}%"></div>'
            f'<div class="lsd-acc-range" style="left:{low:.2f}%;width:{max(high - low, 0.2):.2f}%"></div></div>'
            f'<div class="lsd-note">{a.total - a.correct} of {a.total} wrong{escape(often)}</div></div>'
        )
    note = "Right answers, with Wilson's 95% interval."
    bars = f'<div style="display: flex; flex-wrap: wrap; gap: 0 1.2rem">{"".join(rows)}</div>'
    return f'<h3>Accuracy</h3><div class="lsd-note">{note}</div>{bars}'


def title(p: Prediction) -> str:
    """The heading over one picture."""
    who, sure = escape(common_name(p.model)), _percent(p.probability)
    if p.predicted == p.true:
        return f"<h3>{who} says {escape(p.predicted_name)} with {sure}, and is right.</h3>"
    return f"<h3>{who} says {escape(p.predicted_name)} with {sure}. It is {escape(p.true_name)}.</h3>"


def cause_sentence(p: Prediction) -> str:
    """What fooled the model, and by what measurement; "" where that is not known."""
    return why(p.evidence, p.item.recipe) if p.evidence and isinstance(p.item, ComposedItem) else ""


def question(p: Prediction) -> str:
    """What the quiz asks."""
    who, said, true = (escape(text) for text in (common_name(p.model), p.predicted_name, p.true_name))
    return (
        f"<h3>{who} says {said}. It is {true}. Which pixels did it?</h3><p>Each square was painted over, and the network asked "
        f"again. One of the three took by far the most from “{said}” against “{true}”. Press it.</p>"
    )


def solution(p: Prediction, guess: int, score: tuple[int, int]) -> str:
    """Whether the guess was right, what each square does, and the score."""
    squares, decisive = p.evidence.squares, p.evidence.decisive
    verdict = "Right" if guess == decisive else f"No, not {LETTERS[guess]}"
    lines = "".join(
        f"<li><b>{LETTERS[k]}</b> painted over: {escape(labels.short(p.item.label.space[one.after.said]))} "
        f"({_percent(one.after.probability)}); {escape(p.predicted_name)} against {escape(p.true_name)} "
        f"{'loses' if one.drop >= 0 else 'gains'} {abs(one.drop):.1f}</li>"
        for k, one in enumerate(squares)
    )
    right, made = score
    return (
        f"<h3>{verdict}: it was {LETTERS[decisive]}.</h3><ul>{lines}</ul><p>Before: {escape(p.predicted_name)} "
        f"({_percent(p.probability)}). The numbers are differences of logits. The maps are below.</p>"
        f"<p><b>{right} of {made} guessed right.</b></p>"
    )


def about(case: Case) -> str:
    """Beside the maps: the picture's name, its tag, and what the chosen model makes of the parts that are known."""
    sentences = [cause_sentence(case.said), tag_sentence(case)]
    if reading := case.reading(case.said.model):
        sentences.append(without_sentence(reading))
        if found := share_sentences(case, reading, "contrast"):
            sentences.append(f"{common_name(reading.model)}, {TITLES['contrast']}: {found}")
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in sentences if text)
    return f'<div class="lsd-facts"><span class="lsd-note">{escape(case.said.item.id)}</span>{paragraphs}</div>'


def next_questions(case: Case, search: Search) -> str:
    """Links to the other tabs, for what one asks next."""
    reading = case.reading(case.said.model)
    if not reading:
        return ""
    model, classes = ("model", reading.model), [("class", reading.names[which]) for which in ("true", "predicted")]
    why = "Why is this wrong?" if reading.mistaken else "Why is this right?"
    links = {
        why: _in_reasons(case, search, reading),
        "What do the two classes look like?": _address(("tab", "gallery"), ("view", "compare"), model, *classes),
        f"Visualize the {rival(case)}": _address(("tab", "features"), model, ("unit", f"class/{reading.wrong}")),
        "Explain this picture in Saliency": _in_saliency(case, search),
    }
    items = "".join(f'<li><a href="?{escape(url)}">{words}</a></li>' for words, url in links.items() if url)
    return f'<ul class="lsd-m-next" aria-label="Next questions">{items}</ul>'


def _in_saliency(case: Case, search: Search) -> str:
    """Where the picture is explained by itself: the other tab has the page's examples and the visitor's picture."""
    item, models = case.said.item, [("model", name) for name in search.result.models]
    if search.is_own:
        return _address(("tab", "saliency"), *models)
    is_example = isinstance(item, FileItem) and item.box is None and item.id in examples()
    return _address(("tab", "saliency"), *models, ("example", item.id)) if is_example else ""


def _in_reasons(case: Case, search: Search, reading: Reading) -> str:
    """Where the answer is taken apart: what speaks for the class that was said rather than for the other."""
    said, other = (reading.wrong, reading.true) if reading.mistaken else (reading.true, reading.wrong)
    item = [] if search.is_own else [("set", search.question.source), ("item", case.said.item.id)]
    return _address(("tab", "reasons"), ("model", reading.model), *item, ("of", str(said)), ("against", str(other)))


def _address(*pairs: tuple[str, str]) -> str:
    return urlencode(pairs, safe="/:")


def rival(case: Case) -> str:
    """What the true class is held against."""
    return "wrong class" if case.said.wrong_by else "runner-up"


def legend(case: Case, scale: str) -> str:
    """What rows, columns and colours mean."""
    words = f"what {common_name(case.said.model)} says" if case.said.predicted != case.said.true else "its runner-up"
    some_right = any(not r.mistaken for r in case.readings) and case.said.wrong_by
    right = f" For a model that is right, the wrong class is {words}." if some_right else ""
    method = METHODS[case.method]
    sign = {
        "signed": f"red pixels speak for the {rival(case)}, blue ones for the true class",
        "magnitude": f"{method.title} has no sign, so it says where, and not for which of the two",
        "for": f"warm pixels speak for the {rival(case)}, and what speaks for the true class is left out",
    }[method.values]
    known = [f"the {name} ({_percent(mask.mean())} of the picture)" for name, mask in case.masks.items()]
    shares_are = f" Small print: the share of the map on {' and on '.join(known)}." if known else ""
    return (
        f'<div class="lsd-note">A row for each model: the map of the {rival(case)}, that of the true class, and their '
        f"difference, where {sign}.{escape(right)} {_UNITS[scale]}{shares_are}</div>"
    )


def head(case: Case, reading: Reading) -> str:
    """A row's first cell: the model, right or wrong, its most probable classes."""
    kind, word = ("lsd-bad", "✗ wrong") if reading.mistaken else ("lsd-good", "✓ right")
    return (
        f'{model_name(reading.model)}<span class="lsd-badge {kind}">{word}</span>'
        f"{top_table(reading.top, reading.names['true'])}{names_note(reading.doubt)}"
    )


def role(case: Case, reading: Reading) -> str:
    """What the class that is held against the true one is to the model."""
    if reading.mistaken:
        return "its answer"
    return "the wrong class" if case.said.wrong_by else "its runner-up"


def map_caption(case: Case, reading: Reading, name: str) -> str:
    """Over a map: what it explains, and its shares on the known parts."""
    wrong, true = (escape(reading.names[which]) for which in ("predicted", "true"))
    words = {
        "predicted": f"<b>{wrong}</b>, {role(case, reading)}",
        "true": f"<b>{true}</b>, the truth",
        "contrast": f"<b>{wrong} − {true}</b>",
    }
    parts = [f"{part} {_percent(on)}" for part, (on, _) in shares(case, reading, name).items()]
    note = ", ".join(parts) if parts or not case.masks else "the map is zero everywhere"
    return f"<div>{words[name]}</div>" + (f'<div class="lsd-note">{note}</div>' if note else "")


def map_alt(reading: Reading, name: str) -> str:
    """A map in words."""
    what = reading.names.get(name) or f"{reading.names['predicted']} against {reading.names['true']}"
    return f"Saliency map of {common_name(reading.model)} for {what}"


def share_sentences(case: Case, reading: Reading, which: str) -> str:
    """ "31% of this map lies on the corner tag, which is 1% of the picture; …", or "" for photos."""
    found = shares(case, reading, which)
    parts = [
        f"{_percent(on)} of this map lies on the {name}, which is {_percent(area)} of the picture"
        for name, (on, area) in found.items()
    ]
    return "; ".join(parts) + "." if parts else ""


def tag_sentence(case: Case) -> str:
    """What the corner tag of a drawn picture claims, or ""."""
    tag = getattr(case.said.item, "tag", None)
    if tag is None:
        return ""
    named = labels.short(case.said.item.label.space[tag])
    fooled = [common_name(r.model) for r in case.readings if r.mistaken and r.top[0][1] == named]
    followers = f", and so {'says' if len(fooled) == 1 else 'say'} {_listed(fooled)}" if fooled else ""
    return f"The corner tag claims “{named}”{followers}."


def without_sentence(reading: Reading) -> str:
    """What the model says when a known part is painted over, or "" for photos."""
    before = reading.top[0][1]
    parts = [
        f"with the {name} painted over, it {'still says' if answer == before else 'says'} {answer} ({_percent(p)})"
        for name, (answer, p) in reading.without.items()
    ]
    return f"{common_name(reading.model)} says {before}; {'; '.join(parts)}." if parts else ""


def probe_sentence(reading: Reading, fraction: float, tops: list[list[tuple[int, str, float]]]) -> str:
    """What removing pixels does to the answer, against removing as many at random."""
    before = reading.top[0][1]
    if fraction == 0:
        return f"Nothing is removed yet, and the answer is {before}."
    by_map, by_pixels, by_blobs = (top[0][1] for top in tops)
    share = _percent(fraction)
    verb = "leaves the answer" if by_map == before else f"turns the answer from {before} to"
    right = ", which is right" if by_map == reading.names["true"] != before else ""
    pixels = f"leaves it {before}" if by_pixels == before else f"turns it to {by_pixels}"
    blobs = f"leave it {before}" if by_blobs == before else f"turn it to {by_blobs}"
    return (
        f"Removing the {share} most salient pixels {verb} {by_map}{right}; removing {share} random pixels {pixels}, and "
        f"random blobs of the same area {blobs}."
    )


def flip_sentence(curve: ProbeResult) -> str:
    """The smallest shares that change the answer."""
    most = _percent(max(curve.fractions))
    flips = {"by the map": curve.flip_fraction, **{f"by {n}": c.flip_fraction for n, c in curve.controls.items()}}
    words = [f"{name} {'not even ' + most if f is None else _percent(f)}" for name, f in flips.items()]
    return f"The smallest share tried that changes the answer: {', '.join(words)} (medians of the random draws)."


def _listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _percent(share: float) -> str:
    """ "0.5%", "2%", "31%"."""
    value = 100 * share
    if 0 < value < 0.05:
        return "less than 0.1%"
    return f"{value:.0f}%" if value >= 10 or abs(value - round(value)) < 0.05 else f"{value:.1f}%"
