"""Who runs a model next: places for work that does, and a line of whoever waits for one. No Gradio here."""

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lsd.errors import LSDError

PLACES = 1  # jobs that run models at a time
LONGEST = 32  # jobs that wait; whoever comes later is told so
LOOK = 0.1  # seconds between two looks of whoever waits at whether he was stopped


class BusyError(LSDError):
    """Too many wait already."""


class ReplacedError(LSDError):
    """Whoever asked has asked for something else since."""


@dataclass(frozen=True)
class Owner:
    """Whose work it is.

    Attributes:
        key: of those that have the same, one may wait: the newest; "" for work of which any number may.
        client: where it comes from; the line is shared out between clients.
    """

    key: str = ""
    client: str = ""


NOBODY = Owner()


@dataclass(frozen=True)
class Waiting:
    """The work's turn has not come: so many are before it, for about so many seconds, None where nobody knows.

    Attributes:
        addition: what it is that waits, if it is an addition to what is there already; "" for what was asked for.
    """

    before: int
    seconds: int | None
    addition: str = ""


@dataclass(eq=False)
class Ticket:
    """Somebody in the line."""

    seconds: float | None = None  # that the work is expected to take
    owner: Owner = NOBODY
    addition: str = ""
    round: int = 0  # in each round every client has one
    wants: bool = True
    begun: float | None = None  # when he got his place, while he has it
    refusal: LSDError | None = None  # why he gets none any more

    @property
    def is_addition(self) -> bool:
        return bool(self.addition)

    @property
    def waits(self) -> bool:
        return self.wants and not self.begun and not self.refusal

    @property
    def left(self) -> float | None:
        if self.seconds is None:
            return None
        return max(self.seconds - (time.monotonic() - self.begun if self.begun else 0), 0)


Look = Callable[[Callable[[], Waiting | None]], None]


class Line:
    """Places for work that runs models.

    What was asked for comes before additions to what others have already. In both, clients take turns (fair queueing), and
    each one's jobs are served in the order in which they came.
    """

    def __init__(self, places: int = PLACES, longest: int = LONGEST):
        self._places, self._longest = places, longest
        self._tickets: list[Ticket] = []  # in the order in which they came
        self._round = {False: 0, True: 0}  # of whatever got a place last, among additions and among what is none
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def place(
        self,
        seconds: float | None = None,
        owner: Owner = NOBODY,
        addition: str = "",
        needless: Callable[[], bool] = lambda: False,
        look: Look = lambda told: None,
    ) -> Iterator[Ticket]:
        """Wait for a place, and have it within the block.

        Args:
            needless: asked while it waits; once it is true, the block is entered without a place.
            look: called again and again while it waits, with what tells how far it is; what it raises ends the waiting.

        Raises:
            BusyError: too many wait already.
            ReplacedError: while it waited, its owner has asked for something else.
        """
        ticket = Ticket(seconds, owner, addition)
        with self._changed:
            self._let_in(ticket)
        try:
            self.wait(ticket, needless, look)
            yield ticket
        finally:
            with self._changed:
                self._tickets.remove(ticket)
                self._hand_out()

    def wait(
        self, ticket: Ticket, needless: Callable[[], bool] = lambda: False, look: Look = lambda told: None
    ) -> None:
        """Until the ticket has a place; the first to come are the first to get one, though they had given one back."""
        with self._changed:
            ticket.wants = True
            self._hand_out()
        while True:
            if ticket.waits:
                look(lambda: self._waiting(ticket))
            with self._changed:
                if ticket.waits:
                    self._changed.wait(LOOK)
                if ticket.refusal:
                    raise ticket.refusal
                if ticket.begun:
                    return
            if needless():
                with self._changed:
                    ticket.wants = bool(ticket.begun)
                return

    def give_back(self, ticket: Ticket) -> None:
        """Leave the place to the next, and stay in the line."""
        with self._changed:
            ticket.wants, ticket.begun = False, None
            self._hand_out()

    def _let_in(self, ticket: Ticket) -> None:
        alike = [t for t in self._tickets if t.is_addition == ticket.is_addition and not t.refusal]
        for other in alike:
            if other.waits and other.owner.key and other.owner.key == ticket.owner.key:
                other.refusal = ReplacedError("You have asked for something else meanwhile, so this is not waited for.")
        alike = [t for t in alike if not t.refusal]
        if len(alike) >= self._longest + (0 if ticket.addition else self._places):
            self._make_room(ticket, [t for t in alike if t.waits])
        own = [t.round for t in alike if t.owner.client == ticket.owner.client]
        ticket.round = max([self._round[ticket.is_addition], *(number + 1 for number in own)])
        self._tickets.append(ticket)

    def _make_room(self, ticket: Ticket, waiting: list[Ticket]) -> None:
        """The last of the client who has most in the line goes, if that is more than the one who comes would have."""
        busy = BusyError(f"{self._longest} jobs are waiting already; please try again in a minute.")
        numbers = Counter(t.owner.client for t in waiting)
        client, most = max(numbers.items(), key=lambda pair: pair[1], default=("", 0))
        if most <= numbers[ticket.owner.client] + 1:
            raise busy
        next(t for t in reversed(waiting) if t.owner.client == client).refusal = busy

    def _order(self) -> list[Ticket]:
        """Those that wait, as they will be served."""
        return sorted((t for t in self._tickets if t.waits), key=lambda t: (t.is_addition, t.round))

    def _hand_out(self) -> None:
        free = self._places - sum(1 for ticket in self._tickets if ticket.begun)
        for ticket in self._order()[: max(free, 0)]:
            ticket.begun = time.monotonic()
            self._round[ticket.is_addition] = ticket.round
        self._changed.notify_all()

    def _waiting(self, ticket: Ticket) -> Waiting | None:
        with self._changed:
            if not ticket.waits or ticket not in self._tickets:
                return None
            order = self._order()
            before = [*(t for t in self._tickets if t.begun), *order[: order.index(ticket)]]
        left = [one.left for one in before]
        return Waiting(len(before), None if None in left else math.ceil(sum(left) / self._places), ticket.addition)
