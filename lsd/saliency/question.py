"""One question from the options in which people ask it: the command's, the library's and the endpoint's."""

from collections.abc import Callable

from lsd.errors import LSDError
from lsd.reference import Reference
from lsd.saliency import defaults
from lsd.saliency.explain import OfGroup, SimilarTo, Spec, TargetSpec, TopClasses

TOP = "top1"  # the target where none is named


def question(
    *,
    target: str | int = TOP,
    against: str | int | None = None,
    kind: str = defaults.KIND,
    group: str | None = None,
    within: str | None = None,
    classes: int | None = None,
    like: Reference | None = None,
    both_ways: bool = False,
    called: Callable[[str], str] = str,
) -> Spec:
    """What is asked.

    Args:
        target, against, kind: as of `TargetSpec`.
        group, within: names of groups: of `OfGroup` alone, and with the target.
        classes: the count of `TopClasses`.
        like, both_ways: as of `SimilarTo`.
        called: how an option is written where it is asked for, from its name here.

    Raises:
        LSDError: two questions at once, or an option that the question does not have.
    """
    named = {"against": against, "group": group, "within": within, "classes": classes, "like": like}
    asked = [name for name, value in named.items() if value is not None]
    if len(asked) > 1:
        raise LSDError(f"{called(asked[0])} and {called(asked[1])} are two questions: ask one after the other.")
    what = asked[0] if asked else ""
    if what in ("group", "classes", "like") and target != TOP:
        raise LSDError(f"{called(what)} asks for no class: leave {called('target')} away, or {called(what)}.")
    if what in ("group", "within", "like") and kind != defaults.KIND:
        raise LSDError(f"{called(what)} has one output: leave {called('kind')} away.")
    if both_ways and like is None:
        raise LSDError(f"{called('both_ways')} is between two pictures: give the other one with {called('like')}.")
    if like is not None:
        return SimilarTo(like, both_ways)
    if group is not None:
        return OfGroup(group)
    if within is not None:
        return OfGroup(within, target)
    if classes is not None:
        return TopClasses(classes, kind)
    return TargetSpec(target, kind if against is None else "contrast", against)
