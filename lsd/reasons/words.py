"""What a manifest's numbers say, in words: the same ones on the sheet, in the report and in the terminal."""

from lsd.reasons.sentence import in_short, percent

_IDLE = 0.1  # of its share: what changes the target by less than that when it is off was no reason


def name(unit: str, layer: str) -> str:
    """A unit of a layer that is told already: "channel 12"."""
    return in_short(unit).removeprefix(f"{layer} ")


def kind(result: dict) -> str:
    """What the units of a result are: channels, where it does not say."""
    return result.get("kind", "channel")


def is_idle(lost: float, share: float, changed: bool) -> bool:
    """Whether switching a reason off changes hardly anything, so that it is none.

    Args:
        lost: by the target when it is off, as its share in units of the target.
        changed: whether the decision is another one then.
    """
    return not changed and abs(lost) < _IDLE * abs(share)


def idle(one: dict, result: dict) -> bool:
    """The same of one of the `result`'s channels or groups."""
    return is_idle(result["before"]["score"] - one["without"]["score"], one["share"], one["without"]["changed"])


def without(one: dict, result: dict) -> str:
    """What the network says without a reason, one of the `result`'s channels or groups."""
    before, after = result["before"], one["without"]
    if after["changed"]:
        return f"Without it: {after['first']['name']}, {percent(after['first']['probability'])}."
    if idle(one, result):
        return "Without it hardly anything changes."
    target = result["classes"][0]["name"]
    return f"Without it: {target} {percent(before['probability'])} → {percent(after['probability'])}."


def test(result: dict) -> list[str]:
    """What came of switching reasons off: the first groups, the first units, as many at random."""
    told = []
    for what, called in (("groups", "groups"), ("channels", f"{kind(result)}s")):
        if result[what]:
            told.append(_so_far(result[what], result["flips"][what], called))
    draws, changed = result["random"]["draws"], result["random"]["changed"]
    if draws:
        count = len(result["channels"])
        times = f"in {changed} of {draws} draws" if changed else f"in none of {draws} draws"
        told.append(
            f"{count} {kind(result)}{'s' if count > 1 else ''} of {result['layer_channels']} off at random: another answer {times}."
            + close_call(changed, draws)
        )
    return told


def close_call(changed: int, draws: int) -> str:
    """A warning where even channels at random often change the decision; "" elsewhere."""
    return " The decision hangs by a thread: trust its reasons less." if 4 * changed >= draws > 0 else ""


def _so_far(reasons: list[dict], flips: int | None, what: str) -> str:
    if flips is None:
        return f"All {len(reasons)} {what} off: the answer stays."
    first = reasons[flips - 1]["without_all_so_far"]["first"]["name"]
    which = f"The first {what.removesuffix('s')}" if flips == 1 else f"The first {flips} {what}"
    return f"{which} off: {first}."


def also(one: dict) -> str:
    """What else a reason speaks for, and against, in this picture; "" for nothing."""
    told = [
        f"{word} {', '.join(other['name'] for other in one[key])}"
        for word, key in (("raises", "raises"), ("lowers", "lowers"))
        if one[key]
    ]
    return f"It {', and '.join(told)}." if told else ""


def missing(one: dict) -> str:
    """Of a channel that the photo lacks: its share there and here."""
    return f"{one['there']:.2g} nats in the class's picture, {one['here']:.2g} here."
