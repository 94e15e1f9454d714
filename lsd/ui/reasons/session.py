"""What a visitor's run has left so far: what each network says and why, what is off, and pictures; and no network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from PIL import Image

from lsd.errors import LSDError
from lsd.features.judge import Verdict
from lsd.reasons.drawn import guesses
from lsd.reasons.region import Box, places_in
from lsd.ui.reasons.request import Request
from lsd.ui.shared.reason_words import GROUPS
from lsd.ui.shared.reasoned import Account, Switching, Thing


@dataclass
class Run:
    """One picture asked about.

    Attributes:
        shown: the picture at the size of the page.
        accounts, troubles: by the model's place: its answer, or why there is none.
        off: by place, the names of what is switched off, in the order in which it was.
        switchings: by place, what the network says without it; none where nothing is off, or it is not known yet.
        pictures: address of a unit's picture by (model, unit); "" of one that cannot be had. `forming` are those under way.
        verdicts: by (model, unit), what other networks take its picture for; () where none was asked.
        region: of the picture, outside of which nothing is off, as for `places_in`; None for none.
        complaints: sentences on what was asked for and cannot be.
        view: what the rows are.
        unit: a channel that is shown, whether it is among the first or not.
    """

    request: Request
    shown: Image.Image
    accounts: dict[int, Account] = field(default_factory=dict)
    troubles: dict[int, str] = field(default_factory=dict)
    off: dict[int, list[str]] = field(default_factory=dict)
    switchings: dict[int, Switching] = field(default_factory=dict)
    pictures: dict[tuple[str, str], str] = field(default_factory=dict)
    forming: dict[tuple[str, str], str] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], Sequence[Verdict]] = field(default_factory=dict)
    region: Box | None = None
    complaints: list[str] = field(default_factory=list)
    view: str = GROUPS
    unit: str = ""

    def names(self, place: int) -> dict[str, str]:
        """Unit → a guess at what is in its picture, of a model's units that have one."""
        model = self.accounts[place].model
        return guesses({unit: said for (own, unit), said in self.verdicts.items() if own == model}, model)

    @property
    def is_over(self) -> bool:
        """Whether every model was asked."""
        return len({*self.accounts, *self.troubles}) == len(self.request.models)

    @property
    def pairs(self) -> tuple[tuple[int, str], ...]:
        """(place, name) of all that is off."""
        return tuple((place, name) for place in sorted(self.off) for name in self.off[place])

    def is_off(self, place: int, name: str) -> bool:
        return name in self.off.get(place, ())

    def switch(self, place: int, names: Iterable[str], off: bool) -> None:
        """Switch some of a model's reasons; what the network then says is to be asked."""
        account = self.accounts.get(place)
        wanted = [name for name in names if account and account.find(name)]
        left = [name for name in self.off.get(place, []) if name not in wanted]
        self.off[place] = left + wanted if off else left
        self.switchings.pop(place, None)

    def refused(self, place: int, region: Box | None) -> str:
        """Why nothing of a model can be off in a region alone; "" where it can."""
        account = self.accounts[place]
        try:
            if region:
                places_in(account.reasons.shares.layer, account.box, account.picture_size, region)
        except LSDError as error:
            return str(error)
        return ""

    def doubts(self) -> list[str]:
        """A sentence on each thing that is to be off and that a model does not have, which is forgotten, and the complaints."""
        found = [*self.complaints]
        for place, account in self.accounts.items():
            if self.unit and account.find(self.unit) is None:
                found.append(f"{account.reasons.layer} of {account.model} has no channel “{self.unit}”.")
            for name in list(self.off.get(place, ())):
                if account.find(name) is None:
                    self.off[place].remove(name)
                    found.append(f"“{name}” is nothing that can be switched off in {account.reasons.layer}.")
        return found

    def things(self, place: int) -> tuple[Thing, ...]:
        """The rows of a model in this view, those that speak against the target last."""
        account = self.accounts[place]
        return account.groups if self.view == GROUPS else (*account.channels, *account.against)

    def extra(self, place: int) -> list[str]:
        """Channels that are asked for by name, or off, and not among the reasons."""
        account = self.accounts[place]
        known = {thing.name for thing in (*account.groups, *account.channels, *account.against)}
        wanted = dict.fromkeys([self.unit, *self.off.get(place, ())])
        return [name for name in wanted if name not in known and account.find(name)]

    def units(self, place: int) -> list[str]:
        """The units of the view, the most important first."""
        units = [thing.reason.unit for thing in self.things(place)]
        return units if self.view == GROUPS else [
            *(self.accounts[place].find(name).unit for name in self.extra(place)), *units
        ]  # fmt: skip

    def missing(self, place: int) -> list[str]:
        """Those without a picture."""
        model = self.accounts[place].model
        return [unit for unit in self.units(place) if (model, unit) not in self.pictures]


@dataclass
class Session:
    """A visitor's page: what was asked for last."""

    run: Run | None = None
    unit: str = ""  # that the next run shows, as its address says
    off: tuple[tuple[int, str], ...] = ()  # that it begins with
    region: Box | None = None  # that it begins with
