"""What the tab says of its pictures, as HTML and sentences."""

from collections.abc import Sequence
from urllib.parse import urlencode

from lsd.features.judge import fine_energy, flatness
from lsd.features.pictures import Picture
from lsd.features.units import class_of, parse
from lsd.labels import class_names
from lsd.ui.features.plot import score_curve
from lsd.ui.features.request import NONE
from lsd.ui.features.runs import Lane, Session
from lsd.ui.shared.controls import class_choices
from lsd.ui.shared.markup import OUTPUT_WORDS, escape, model_name, says

# A narrow page has the controls below the results.
JUMP = '<a class="lsd-f-jump" href="#features-controls">Choose what is visualized</a>'
INTRO = """<details class="lsd-intro"><summary>How to use this page</summary><ol>
<li><b>Choose a network and a unit</b>: a class, or something inside: a channel, a neuron, an attention head, a whole layer.</li>
<li><b>Press Visualize</b> and watch the picture form that this unit responds to most: gradient ascent, from noise or from
your picture. Nobody drew it, and no photo went into it unless you gave one.</li>
<li><b>Then doubt it</b>: see what other networks take it for, and what is left of it without regularization.</li>
</ol></details>"""


def duration(seconds: float) -> str:
    """ "8 s", "2 min 5 s"."""
    seconds = max(0, round(seconds))
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min {seconds % 60} s"


def pace(steps: float, seconds: float) -> str:
    """ "2.4 steps a second", "64 steps a second"."""
    rate = steps / max(seconds, 1e-9)
    return f"{rate:.0f} steps a second" if rate >= 10 else f"{rate:.1f} steps a second"


def head(lane: Lane, lanes: int) -> str:
    """The name over a column; the style sheet learns from it how many columns there are."""
    recipe = lane.recipe
    changes = "".join(f", {name}={value}" for name, value in lane.cooking.settings.items())
    of_class = [OUTPUT_WORDS[recipe.output]] if lane.request.units[0].startswith("class/") else []
    parts = [f"recipe {lane.cooking.base}{changes}", *of_class, f"{lane.steps} steps"]
    if recipe.size:
        parts.append(f"{recipe.size} pixels")
    return (
        f'<div class="lsd-feature-head" data-lanes="{lanes}"><h2 class="lsd-feature-title">{escape(lane.title)}</h2>'
        f'{model_name(lane.heading)}<div class="lsd-note">{escape(" · ".join(parts))}</div></div>'
    )


def empty_head(lanes: int = 1) -> str:
    """In its place before there is a unit."""
    return f'<div class="lsd-feature-head" data-lanes="{lanes}"></div>'


def progress(lane: Lane) -> str:
    """How far one column is: step, pace, time left, score."""
    if lane.done:
        scores = ", ".join("none" if p.status == "dead" else f"{p.score:.3g}" for p in lane.pictures)
        text = f"{lane.step} steps in {duration(lane.spent)} · score {scores}"
    elif lane.trouble:
        text = f"given up at step {lane.step} of {lane.steps}"
    elif lane.step:
        now = ", ".join(f"{trace[-1]:.3g}" for trace in lane.traces)
        left = duration(lane.seconds_left())
        text = f"step {lane.step} of {lane.steps} · {pace(lane.step, lane.spent)} · {left} left · score {now}"
    else:
        text = "waiting for its first step"
    return f'<div class="lsd-facts">{escape(text)}</div>'


def overall(session: Session) -> tuple[str, int, int]:
    """(the status line while it runs, done, total)."""
    steps, total = sum(lane.step for lane in session.lanes), sum(lane.steps for lane in session.lanes)
    lefts = [lane.seconds_left() for lane in session.lanes if not (lane.done or lane.trouble)]
    left = f", {duration(sum(lefts))} left" if lefts and None not in lefts else ""
    spent = sum(lane.spent for lane in session.lanes)
    return f"Step {steps} of {total}{', ' + pace(steps, spent) if spent else ''}{left}", steps, total


def picture(address: str | None, alt: str) -> str:
    """A picture as part of the page; a frame of its size before there is one."""
    if address is None:
        return '<div class="lsd-picture lsd-f-empty" aria-hidden="true"></div>'
    return f'<div class="lsd-picture"><img src="{escape(address)}" alt="{escape(alt)}"></div>'


def alt(lane: Lane, seed: int, step: int | None = None) -> str:
    """What the picture shows, for those who do not see it."""
    place = min(seed, len(lane.traces) - 1)
    text = f"Feature visualization of {lane.title} in {lane.request.model}, {lane.heading}"
    text += f", seed {place}" if len(lane.traces) > 1 else ""
    if step is not None or not lane.done:
        return f"{text}, step {step or lane.step} of {lane.steps}"
    if lane.pictures[place].status == "dead":
        return f"{text}: no gradient"
    said = [f", taken for {v.top[0][1]} ({v.top[0][2]:.0%})" for v in lane.own[place : place + 1]]
    return f"{text}, finished{''.join(said)}"


def seeds(thumbnails: Sequence[str], shown: int, count: int) -> str:
    """Every seed's picture, by its address, as a button that shows it large; frames before there are any, nothing for a single
    one."""
    if count < 2:
        return ""
    buttons = "".join(_seed(k, thumbnails[k] if k < len(thumbnails) else None, shown) for k in range(count))
    return f'<div class="lsd-seeds" role="group" aria-label="Seeds">{buttons}</div>'


def _seed(seed: int, thumbnail: str | None, shown: int) -> str:
    image = f'<img src="{escape(thumbnail)}" alt="">' if thumbnail else '<span class="lsd-f-empty"></span>'
    state = f'aria-pressed="{str(seed == shown).lower()}"' if thumbnail else "disabled"
    return f'<button type="button" data-seed="{seed}" {state} aria-label="Seed {seed}">{image}</button>'


def curve(lane: Lane) -> str:
    """The score at each step, drawn."""
    if not lane.traces or not lane.traces[0]:
        return ""
    what = OUTPUT_WORDS[lane.recipe.output] if lane.request.units[0].startswith("class/") else "score"
    alt = f"Score curve of {lane.heading}: from {lane.traces[0][0]:.3g} to {lane.traces[0][-1]:.3g}"
    return score_curve(lane.traces, lane.steps, what, alt)


def questions(session: Session) -> str:
    """Where the finished picture leads on to, as links; only a class of one network has them."""
    lane = session.lanes[0]
    index = class_of(parse(lane.request.units[0]), lane.request.model)
    classes = class_choices([lane.request.model])
    if index is None or not lane.done or index >= len(classes):
        return ""
    name, model = classes[index][1], lane.request.model
    links = {"Where in a picture does it see this?": {"tab": "saliency", "model": model, "of": name}}
    if name in class_names(1000):  # what the gallery has been made for
        links["Compare in the gallery"] = {"tab": "gallery", "view": "class", "class": name}
    shown = "".join(f'<a href="?{escape(urlencode(query, safe="/:"))}">{text}</a>' for text, query in links.items())
    return f'<nav class="lsd-f-links" aria-label="Next questions">{shown}</nav>'


def troubles(pictures: Sequence[Picture]) -> str:
    """What is wrong with finished pictures, in words; "" if nothing is."""
    found: dict[str, list[int]] = {}
    for p in pictures:
        for note in p.notes:
            found.setdefault(note, []).append(p.job.seed)
        if p.status != "ok":
            continue
        if flatness(p.pixels) == "grey":
            found.setdefault("Hardly anything formed: the picture stayed nearly grey.", []).append(p.job.seed)
        elif flatness(p.pixels) == "saturated":
            text = "Most of it is at the end of the colour range; a smaller learning rate or more steps may help."
            found.setdefault(text, []).append(p.job.seed)
    lines = []
    for text, seeds in found.items():
        which = f"Seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: " if len(seeds) < len(pictures) else ""
        lines.append(f'<div class="lsd-trouble" role="note">{escape(which + text)}</div>')
    return "".join(lines)


def verdicts(lane: Lane, seed: int) -> str:
    """What its own network and the others take one of the lane's pictures for."""
    if lane.trouble:
        return f'<div class="lsd-trouble" role="alert">{escape(lane.trouble)}</div>'
    if not lane.done:
        return ""
    place = min(seed, len(lane.pictures) - 1)
    made_for = _class_name(lane)
    warning = troubles(lane.pictures)
    if lane.pictures[place].status == "dead":
        return warning
    said = agreement(lane, place)
    parts = [warning, f'<p class="lsd-facts">{escape(said)}</p>' if said else ""]
    for verdict, own in [(v, True) for v in lane.own[place : place + 1]] + [(v[place], False) for v in lane.others]:
        role = "its own network" if own else "another network"
        parts.append(says(verdict, role, made_for))
    if not lane.own and not lane.others:
        parts.append('<div class="lsd-note">No network with classes was asked.</div>')
    energy = fine_energy(lane.pictures[place].pixels)
    parts.append(
        f'<div class="lsd-facts">Detail finer than two pixels a side: {energy:.1%} of the picture '
        '<span class="lsd-note">(photos: 1 to 5%)</span></div>'
    )
    if lane.spread is not None:
        parts.append(
            f'<div class="lsd-facts">The seeds\' pictures are {lane.spread:.2f} apart in its last block '
            '<span class="lsd-note">(0: the same, 1: nothing in common)</span></div>'
        )
    return "".join(parts)


def _class_name(lane: Lane) -> str | None:
    return lane.title if class_of(parse(lane.request.units[0]), lane.request.model) is not None else None


def summary(session: Session) -> str:
    """The status line at the end."""
    dead = [lane for lane in session.lanes if lane.done and all(p.status == "dead" for p in lane.pictures)]
    text = f"Done in {duration(session.seconds)}." if session.manifest is None else _made_beforehand(session)
    failed = [lane for lane in session.lanes if lane.trouble]
    if failed:
        return f"{text} {' '.join(f'{lane.heading}: {lane.trouble}' for lane in failed)}"
    if dead:
        said = (f"{lane.heading}: {lane.pictures[0].notes[0]}" for lane in dead)
        return f"{text} {' '.join(said)}"
    return text


def _made_beforehand(session: Session) -> str:
    """Where pictures are from that nobody had to wait for."""
    return f"Made beforehand in {duration(session.seconds)} on {_where(session.manifest)}; press Visualize to watch it form."


def _where(manifest: dict) -> str:
    """ "1 CPU thread", or the GPU's name."""
    device, threads = manifest["environment"]["device"], manifest["environment"]["threads"]
    return f"{threads} CPU thread{'s' * (threads > 1)}" if device == "cpu" else device


def agreement(lane: Lane, seed: int = 0) -> str:
    """Who recognises one of the pictures, in one sentence; "" where there is no class to recognise."""
    name = _class_name(lane)
    if name is None or not lane.own:
        return ""
    own = lane.own[seed].top[0]
    yes = [v[seed].model for v in lane.others if v[seed].top[0][1] == name]
    own_says = f"Its own network takes it for {own[1]} ({own[2]:.0%})" + ("" if own[1] == name else f", not {name}")
    seen = f"{len(yes) or 'none'} of {len(lane.others)} others say {name}"
    others = seen if lane.others else "no other was asked"
    return f"{own_says}; {others}."


def reading(session: Session) -> str:
    """What is seen in a comparison, in words made from its numbers; for a plain run, which models are left out."""
    note = session.lanes[0].note
    if note:
        return f'<div class="lsd-verdict">{escape(note)}</div>'
    if not all(lane.done for lane in session.lanes) or not session.compare:
        return ""
    lanes = session.lanes
    dead = [p for lane in lanes for p in lane.pictures if p.status == "dead"]
    if dead:
        return f'<div class="lsd-verdict">{escape(dead[0].notes[0])}</div>'
    text = _recipes(lanes) if session.compare == NONE else _outputs(lanes)
    return f'<div class="lsd-verdict">{text}</div>'


def _recipes(lanes: Sequence[Lane]) -> str:
    plain, made = lanes[0], lanes[-1]
    fine = [fine_energy(lane.pictures[0].pixels) for lane in (plain, made)]
    text = (
        f"Without regularization, <b>{fine[0]:.0%}</b> of the picture is detail finer than two pixels a side; with "
        f"“{escape(made.heading)}” it is <b>{fine[1]:.0%}</b>. In photos it is 1 to 5%. "
    )
    if plain.pictures[0].score > made.pictures[0].score:
        text += (
            f"Yet the unit responds <i>more</i> to the first ({plain.pictures[0].score:.3g} against "
            f"{made.pictures[0].score:.3g}): the network alone cannot tell which of them shows anything. "
        )
    sentences = [(lane, agreement(lane)) for lane in (plain, made)]
    text += " ".join(f"<b>{escape(lane.heading)}</b>: {escape(said)}" for lane, said in sentences if said)
    return text


def _outputs(lanes: Sequence[Lane]) -> str:
    rows = "".join(
        f"<tr><td>made for the {escape(lane.heading)}</td>"
        + "".join(f"<td>{_shown(lane.readings[key], key)}</td>" for key in OUTPUT_WORDS)
        + "</tr>"
        for lane in lanes
    )
    table = (
        '<table class="lsd-numbers"><tr><th></th><th>its logit</th><th>its log-odds</th><th>its probability</th></tr>'
        f"{rows}</table>"
    )
    logit, odds, probability = lanes
    text = ""
    if logit.readings["logit"] > odds.readings["logit"] and logit.readings["log_odds"] < odds.readings["log_odds"]:
        text += (
            "The logit's picture has the highest logit but not the highest log-odds: it raises other classes along with "
            "this one, which costs a logit nothing. "
        )
    elif logit.readings["log_odds"] < odds.readings["log_odds"]:
        text += "The log-odds' picture tells the class from the others best, since that is what log-odds ask for. "
    else:
        text += "Here the logit's picture tells the class from the others no worse than the log-odds' one. "
    pull = "The probability pulls in the same direction as the log-odds, but times p·(1 − p), which fades at both ends"
    p, short_of = probability.readings["probability"], odds.readings["log_odds"] - probability.readings["log_odds"]
    if short_of <= 0:
        text += f"{pull}; in so few steps that made no difference here: its picture is no worse."
    elif p > 0.9:
        text += f"{pull}: once p is near 1 there is nothing left to gain, and its picture stays {short_of:.1f} short in log-odds."
    elif p < 0.1:
        text += (
            f"{pull}: while the class is improbable hardly anything pulls, and its picture has not got off the ground."
        )
    else:
        text += f"{pull}: its picture is {short_of:.1f} short in log-odds."
    return table + f"<div>{text}</div>"


def _shown(value: float, kind: str) -> str:
    if kind == "probability":
        return f"{value:.2%}" if value < 0.9999 else f"1 − {1 - value:.0e}" if value < 1 else "1"
    return f"{value:.1f}"


def again(session: Session) -> str:
    """How exactly the command lines make the same pictures."""
    which = "the same pictures" if len(session.lanes) == 1 else "each column's pictures"
    exactly = "bit for bit on the same machine"
    if session.manifest is not None:
        exactly = (
            f"bit for bit with {_where(session.manifest)} on the same kind of machine; elsewhere numbers are rounded otherwise, "
            "and the ascent ends in other pictures of the same unit"
        )
    return f'<div class="lsd-facts">This makes {which} again, {escape(exactly)}.</div>'
