"""Reasons in words, for the page and for programs."""

from lsd.labels import short
from lsd.reasons.explain import flips
from lsd.reasons.sentence import decision
from lsd.reasons.words import close_call
from lsd.ui.shared.reasoned import Account, Thing

GROUPS, CHANNELS = "groups", "channels"
TOLD = 3  # reasons that a sentence names


def title(thing: Thing) -> str:
    """ "Group 1", "Channel 12"."""
    return f"Group {thing.name[1:]}" if thing.name.startswith("g") else f"Channel {thing.name}"


def decided(account: Account) -> str:
    """ "tabby rather than lynx", "tabby"."""
    return decision(account.reasons.target, account.class_names)


def sentence(account: Account, view: str) -> str:
    """The decision, and the few things that speak most for it.

    Args:
        view: what they are, groups or channels.
    """
    things = account.groups if view == GROUPS else account.channels
    if not things:
        return f"{decided(account)}: {nothing(account)}"
    first = ", ".join(f"{_small(title(thing))} ({thing.reason.part:.0%})" for thing in things[:TOLD])
    return f"{decided(account)}: because of {first}{rest(account, view)}"


def nothing(account: Account) -> str:
    """Where nothing speaks for the decision."""
    return f"nothing in {account.reasons.layer} speaks for it, no share is positive."


def rest(account: Account, view: str) -> str:
    """What comes after the first things: how many more there are, and how much all of them are."""
    things = account.groups if view == GROUPS else account.channels
    more = f" and {len(things) - TOLD} more" if len(things) > TOLD else ""
    together = sum(thing.reason.part for thing in things)
    return f"{more}, {together:.0%} of all that speaks for it in {account.reasons.layer}."


def _small(text: str) -> str:
    return text[0].lower() + text[1:]


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
