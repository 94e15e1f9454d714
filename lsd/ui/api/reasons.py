"""Reasons for programs: the answer as plain values."""

from collections.abc import Iterable

from lsd import labels
from lsd.reasons.explain import Trial, flips
from lsd.ui.shared.reason_words import decided
from lsd.ui.shared.reasoned import Account, Switching, Thing


def told(account: Account, switching: Switching | None) -> dict:
    """As plain JSON values: the reasons, and what the network says with some of them off, if any are."""
    target, tried, sentence = account.reasons.target, account.tried, decided(account)
    return {
        "target": target.to_dict(),
        "decision": sentence.decision,
        "sentence": str(sentence),
        "layer": account.reasons.layer,
        "score": account.before,
        "explained": account.reasons.explained,
        "fill": account.fill,
        **{part: [_thing(account, thing) for thing in getattr(account, part)] for part in ("groups", "channels", "against")},
        "flips": {
            "groups": flips(tried.groups_so_far),
            "channels": flips(tried.channels_so_far),
            "at_random": sum(trial.changed for trial in tried.random),
            "draws": len(tried.random),
        },
        "switched": None if switching is None else {
            "off": list(switching.off), **_trial(account, switching.trial),
            "at_random": sum(trial.changed for trial in switching.random), "draws": len(switching.random),
        },
    }  # fmt: skip


def _trial(account: Account, trial: Trial) -> dict:
    return {
        "score": trial.score,
        "changed": trial.changed,
        "index": trial.first,
        "name": labels.short(account.class_names[trial.first]),
    }


def _thing(account: Account, thing: Thing) -> dict:
    def classes(found: Iterable[tuple[int, float]]) -> list[dict]:
        return [{"index": c, "name": labels.short(account.class_names[c]), "by": by} for c, by in found]

    reason = thing.reason
    return {
        "name": thing.name, "unit": reason.unit, "share": reason.share, "part": reason.part,
        "alone": _trial(account, thing.alone),
        "raises": classes(thing.raises), "lowers": classes(thing.lowers),
    }  # fmt: skip
