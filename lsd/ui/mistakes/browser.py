"""The list of mistakes: filters, pages, and the one that is chosen."""

from collections.abc import Mapping

import gradio as gr

from lsd.evaluation.mistakes import Prediction
from lsd.ui.mistakes import html
from lsd.ui.mistakes.filters import NAMES, ORDERS, Filters, choices, find
from lsd.ui.mistakes.session import PAGE, Session, pages
from lsd.ui.shared.files import script

_LABELS = {
    "model": "Model",
    "true": "True class",
    "predicted": "Predicted class",
    "cause": "Fooled by",
    "wrong_by": "Models wrong",
}


class Browser:
    """The components; built inside a `gr.Blocks`."""

    def __init__(self):
        with gr.Column(elem_classes="lsd-m-browser") as self.column:
            with gr.Row(elem_classes="lsd-m-filters"):
                self.filters = {
                    name: gr.Dropdown(
                        [("all", getattr(Filters(), name))], value=getattr(Filters(), name), label=label, min_width=110
                    )
                    for name, label in _LABELS.items()
                }
                self.filters["sort"] = gr.Dropdown(
                    [(words, name) for name, words in ORDERS.items()],
                    value=Filters().sort,
                    label="Sort by",
                    min_width=110,
                )
            self.list = gr.HTML(html.blank_list(), js_on_load=script("mistakes/list.js"), elem_classes="lsd-m-place")
            with gr.Row(elem_classes="lsd-m-pager"):
                self.previous = gr.Button("‹ Previous", size="sm", min_width=90, scale=0)
                self.where = gr.HTML()
                self.next = gr.Button("Next ›", size="sm", min_width=90, scale=0)

    @property
    def outputs(self) -> set[gr.blocks.Block]:
        """What `show` changes."""
        return {self.column, self.list, self.where, self.previous, self.next, *self.filters.values()}

    def read(self, values: Mapping) -> Filters:
        """What the controls let through."""
        return Filters(**{name: values[self.filters[name]] for name in NAMES})

    def show(self, session: Session) -> dict:
        """One page of the mistakes that pass the filters; the filters' own choices with their counts."""
        search, view = session.search, session.view
        found, page, last = _page(session)
        updates = {
            self.filters[name]: gr.update(choices=offered, value=getattr(view.filters, name))
            for name, offered in choices(search.result, view.filters).items()
        }
        text = f"Page {page} of {last} · {len(found)} mistake{'s' * (len(found) != 1)}"
        return (
            updates
            | self.cards(session)
            | {
                self.filters["cause"]: updates[self.filters["cause"]] | {"visible": search.has_causes},
                self.filters["sort"]: view.filters.sort,
                self.column: gr.update(visible=not search.is_own and bool(search.result.wrong.any())),
                self.where: f'<div class="lsd-note">{text}</div>',
                self.previous: gr.update(interactive=page > 1, visible=last > 1),
                self.next: gr.update(interactive=page < last, visible=last > 1),
            }
        )

    def cards(self, session: Session) -> dict:
        """The page of the list anew; the filters stay."""
        found, page, _ = _page(session)
        return {self.list: html.listed(session, found[(page - 1) * PAGE : page * PAGE])}

    def wait(self, own: bool) -> dict:
        """While a search, about the visitor's own picture or not, has found nothing yet. What is hidden stays so:
        of two visibilities told in quick succession Gradio 6.31 may keep the first."""
        return {self.list: html.blank_list(own=own), self.where: ""}


def _page(session: Session) -> tuple[list[Prediction], int, int]:
    """All mistakes that pass the filters, the page that is shown, and the last one."""
    found = find(session.search.result, session.view.filters)
    last = pages(len(found))
    return found, min(max(session.view.page, 1), last), last
