"""Reasons in words, for the page and for programs."""

from collections.abc import Mapping

from lsd.labels import short
from lsd.reasons.explain import flips
from lsd.reasons.sentence import Sentence, called, sentence
from lsd.reasons.words import close_call
from lsd.ui.shared.reasoned import Account, Thing

GROUPS, CHANNELS = "groups", "channels"


def title(thing: Thing) -> str:
    """ "Group 1", "Channel 12"."""
    return called(thing.reason.unit, int(thing.name.removeprefix("g"))).capitalize()


def decided(account: Account, view: str = GROUPS, names: Mapping[str, str] | None = None) -> Sentence:
    """The decision, and the few things that speak most for it.

    Args:
        view: what they are, groups or channels.
        names: unit → a guess at what is in its picture.
    """
    things = account.reasons.groups if view == GROUPS else account.reasons.channels
    return sentence(account.reasons, account.class_names, things, names=names)


def lasting(account: Account, view: str) -> str:
    """How many of the first reasons change the decision when they are off."""
    things, so_far = (
        (account.groups, account.tried.groups_so_far) if view == GROUPS else (account.channels, account.tried.channels_so_far)
    )  # fmt: skip
    if not things:
        return ""
    what, first = view[:-1], flips(so_far)
    before = short(account.class_names[int(account.reasons.logits.argmax())])
    if first is None:
        many = f"All {len(things)} {view}" if len(things) > 1 else f"The one {what}"
        words = f"{many} off, it still says {before}."
    else:
        now = short(account.class_names[so_far[first - 1].first])
        words = f"The first {what if first == 1 else f'{first} {view}'} off, it says {now}."
    if view == CHANNELS and account.tried.random:
        changed = sum(trial.changed for trial in account.tried.random)
        words += f" {len(things)} at random change that in {changed} of {len(account.tried.random)} draws."
        words += close_call(changed, len(account.tried.random))
    return words
