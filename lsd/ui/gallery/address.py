"""What the Gallery tab shows, as its address says it: every view is an address, and every link in it is one.

?u=resnet50.a1_in1k/class/207/lucid/0                   one picture
?tab=gallery&q=dog&model=resnet50.a1_in1k&page=2        what fits
?tab=gallery&view=classes&q=dog                         classes
?tab=gallery&view=class&class=golden+retriever          one class in all models
?tab=gallery&view=compare&model=a&model=b&class=tabby   models × classes
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from gallery.filters import FACETS, SORTS, Filters

BROWSE, UNIT, CLASSES, CLASS, COMPARE = "browse", "unit", "classes", "class", "compare"
MAX_MODELS, MAX_CLASSES = 4, 24  # side by side

_LENGTH = 400  # characters of a value that are read


@dataclass(frozen=True)
class View:
    """One view of the gallery.

    Attributes:
        what: `BROWSE`, `UNIT`, `CLASSES`, `CLASS` or `COMPARE`.
        filters: of `BROWSE`; its search is also what is looked for among the classes of `CLASSES` and `COMPARE`.
        sort: one of `SORTS`; "" for what suits the filters.
        number: the page, from 1.
        unit_id: of `UNIT`.
        models: of `COMPARE`.
        classes: of `COMPARE`, and the one of `CLASS`: their names.
    """

    what: str = BROWSE
    filters: Filters = field(default_factory=Filters)
    sort: str = ""
    number: int = 1
    unit_id: str = ""
    models: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def is_home(self) -> bool:
        """Whether nothing is asked for at all."""
        return self == View()

    def with_filters(self, **changes: str | None) -> "View":
        """The first page of what fits other filters."""
        return View(filters=replace(self.filters, **changes), sort=self.sort)

    @property
    def order(self) -> str:
        """The sort that is used: in a layer the network's order, elsewhere what others recognise comes first."""
        if self.sort:
            return self.sort
        return "agreement" if self.filters.layer in (None, "") else "order"


def read(query: Mapping) -> View | None:
    """The view of an address, for whatever somebody may have typed; None if it is not the gallery's.

    Args:
        query: with `get` and `getlist`, as Starlette's QueryParams.
    """

    def text(key: str) -> str:
        return (query.get(key) or "").strip()[:_LENGTH]

    if unit_id := text("u"):
        return View(UNIT, unit_id=unit_id)
    if query.get("tab") != "gallery":
        return None
    what = text("view")
    search, classes = Filters(search=text("q")), tuple(name[:_LENGTH] for name in query.getlist("class") if name)
    if what == CLASSES:
        return View(CLASSES, search)
    if what == CLASS and classes:
        return View(CLASS, classes=classes[:1])
    if what == COMPARE:
        models = [name[:_LENGTH] for name in query.getlist("model") if name]
        return View(
            COMPARE, replace(search, recipe=text("recipe")), models=tuple(dict.fromkeys(models))[:MAX_MODELS],
            classes=tuple(dict.fromkeys(classes))[:MAX_CLASSES],
        )  # fmt: skip
    chosen = {name: text(name) for name in FACETS if name != "layer"}
    layer = text("layer") if "layer" in query else None
    page = text("page")
    return View(
        filters=replace(search, layer=layer, **chosen), sort=text("sort") if text("sort") in SORTS else "",
        number=int(page) if page.isascii() and page.isdecimal() and len(page) < 8 else 1,
    )  # fmt: skip


def write(view: View) -> str:
    """The address of a view, from the “?” on: the inverse of `read`."""
    if view.what == UNIT:
        return f"?{urlencode({'u': view.unit_id}, safe='/:')}"
    filters = view.filters
    pairs: list[tuple[str, Any]] = [("tab", "gallery")]
    if view.what != BROWSE:
        pairs.append(("view", view.what))
    if filters.search:
        pairs.append(("q", filters.search))
    pairs += [("model", name) for name in view.models] + [("class", name) for name in view.classes]
    pairs += [(name, value) for name in FACETS if (value := getattr(filters, name)) or (name, value) == ("layer", "")]
    if view.sort:
        pairs.append(("sort", view.sort))
    if view.number > 1:
        pairs.append(("page", view.number))
    return f"?{urlencode(pairs, safe='/:')}"
