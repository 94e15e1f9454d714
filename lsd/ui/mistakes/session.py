"""What one visitor looks at: what he asked for last, and what was found. No Gradio here."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lsd.errors import LSDError
from lsd.evaluation.fooled_cases import CAUSES, DEBATABLE
from lsd.evaluation.mistakes import Prediction
from lsd.ui.mistakes.filters import ALL, Filters, cause_of, choices, find
from lsd.ui.mistakes.request import YOURS, Question, View, completed
from lsd.ui.mistakes.search import Search, search
from lsd.ui.mistakes.views import Case, Choice

PAGE = 12  # pictures in one page of the list
_NUMBERS = itertools.count(1)


@dataclass(eq=False)
class Session:
    """Of one visitor; the only thing that his events share.

    Attributes:
        number: of what he asked for last. Work that was begun for another number is past: it ends, and shows nothing more.
        begun: the last number that work was begun for.
        view: what he asked for last; `path` is his own picture.
        told: whether an address asked for it: then the nearest that there is, is shown; `troubles` say why.
        listed: whether the list on the page stays as it is.
        search: what was found for it; `scanning` what a scan under way has found so far.
        case: the mistake that is explained.
        guesses: which square he took for the decisive one, by `mistake_key`.
    """

    number: int = 0
    begun: int = 0
    view: View = field(default_factory=View)
    path: str | None = None
    told: bool = False
    troubles: list[str] = field(default_factory=list)
    listed: bool = False
    search: Search | None = None
    scanning: Search | None = None
    case: Case | None = None
    guesses: dict[tuple[str, str], int] = field(default_factory=dict)

    def ask(self, view: View, *, told: bool = False, troubles: list[str] | None = None, listed: bool = False) -> int:
        """Want this from now on; whatever works on something else is past. Its number.

        Args:
            listed: only another mistake of what was found is wanted, or the same one otherwise.
        """
        self.view = view
        self.told, self.troubles = told, troubles or []
        self.listed = listed and self.found is not None
        self.number = next(_NUMBERS)
        return self.number

    def begin(self) -> int | None:
        """The number to work for: of what was asked for last, though the page may tell of it late, twice, or in another order
        than it was asked for in. None where that work was begun already."""
        if self.begun == self.number:
            return None
        self.begun = self.number
        return self.number

    def stop(self) -> None:
        """Want nothing any more: all work is past."""
        self.begun = self.number = next(_NUMBERS)

    def is_past(self, number: int) -> bool:
        """Whether something else was asked for since."""
        return number != self.number

    @property
    def found(self) -> Search | None:
        """The search, if it is a finished answer to what is asked."""
        search = self.search
        return search if search and search.answers(completed(self.view.question), self.path) else None

    @property
    def settled(self) -> View:
        """The view with the explained mistake by its name: whatever else changes, that stays."""
        if not self.case:
            return self.view
        return replace(self.view, picture=self.case.said.item.id, by=self.case.said.model)

    @property
    def puzzles(self) -> bool:
        """Whether the visitor is to guess before the maps of this mistake are shown."""
        return bool(self.case) and self.is_puzzle(self.case.said)

    def is_puzzle(self, p: Prediction) -> bool:
        """Whether he is to guess about a mistake, so that nothing on the page may say what did it."""
        return bool(self.view.quiz) and has_squares(p) and mistake_key(p) not in self.guesses

    @property
    def score(self) -> tuple[int, int]:
        """How many of his guesses were right, and how many there were."""
        result = self.search.result if self.search else None
        told = {mistake_key(p): p for p in find(result, Filters())} if result else {}
        made = [(guess, told[key]) for key, guess in self.guesses.items() if key in told]
        return sum(guess == p.evidence.decisive for guess, p in made), len(made)

    def next_puzzle(self) -> Prediction | None:
        """The next of the listed mistakes that he has not guessed yet, from the explained one on; None where none is left."""
        listed = find(self.search.result, self.view.filters)
        here = mistake_key(self.case.said)
        place = next((k for k, p in enumerate(listed) if mistake_key(p) == here), -1)
        turned = listed[place + 1 :] + listed[: place + 1]
        return next((p for p in turned if has_squares(p) and mistake_key(p) not in self.guesses), None)

    @property
    def choice(self) -> Choice | None:
        """The mistake that the view is about; None where there is none."""
        if self.view.picture:
            return self.search.choice(self.view.picture, self.view.by)
        found = find(self.search.result, self.view.filters)
        # Of a label that can be debated one learns least, so no other mistake is passed over for it.
        first = next((p for p in found if cause_of(p) != DEBATABLE), next(iter(found), None))
        if first is None:
            return Choice(0, 0) if self.search.is_own and self.search.result.items else None
        return self.search.choice(first.item.id, first.model)


def mistake_key(p: Prediction) -> tuple[str, str]:
    """The picture's id and the model."""
    return p.item.id, p.model


def has_squares(p: Prediction) -> bool:
    """Whether there are squares to choose from."""
    return bool(p.evidence and p.evidence.squares)


def find_mistakes(session: Session) -> Iterator[Search]:
    """Search for what is asked. Where an address asks for what cannot be had, the nearest that can is searched, and
    `session.troubles` say why.

    Raises:
        LSDError: it cannot be had.
    """
    asked, number = session.view.question, session.number
    tries = dict.fromkeys([asked, replace(asked, models=()), Question()] if session.told else [asked])
    if asked.source == YOURS:
        tries = dict.fromkeys([asked])  # nothing is like a picture that is not there
    while question := next(iter(tries)):
        del tries[question]
        try:
            for scanning in search(completed(question), session.path):
                if session.is_past(number):
                    return
                session.scanning = scanning
                yield scanning
        except LSDError as error:
            if session.is_past(number):
                return
            if not tries or session.scanning:
                raise
            session.troubles.append(str(error))
        else:
            session.view = replace(session.view, question=question)
            return


def pages(count: int) -> int:
    """How many pages so many mistakes fill; one if there are none."""
    return max(1, -(-count // PAGE))


def fitted(view: View, search: Search) -> tuple[View, list[str]]:
    """The nearest view that there is in what was found, and a sentence for whatever the view names that there is not."""
    result, troubles = search.result, []

    def without(part: str, name: str, default: object, trouble: str) -> None:
        nonlocal view
        troubles.append(trouble)
        changed = replace(getattr(view, part), **{name: default}) if part else default
        view = replace(view, **{part or name: changed})

    for name, offered in choices(result, Filters()).items():
        value = getattr(view.filters, name)
        if value not in (known for _, known in offered):
            none = {
                "model": f"{value} makes no mistake here",
                "cause": f"No mistake here is known to be due to {CAUSES.get(value, value)}",
            }  # fmt: skip
            none = none.get(name, f"No mistake here is about “{value}”")
            without("filters", name, ALL, f"{none}, so that filter is off.")
    last = pages(len(find(result, view.filters)))
    if view.page > last:
        without("", "page", last, f"There is no page {view.page}; this is the last.")
    if view.picture and search.column(view.picture) is None:
        without("", "picture", "", f"There is no picture “{view.picture}” here; another is explained.")
    if view.by not in ("", *result.models):
        without("", "by", "", f"{view.by} was not asked about these pictures.")
    if view.removal.model not in ("", *result.models):
        without("removal", "model", "", f"{view.removal.model} was not asked about these pictures.")
    return view, troubles
