"""A decision: its outcome, the determining statements, and the outcome of each side."""

from typing import Literal

from msgspec import Struct

from smtpgate.core.policy.principals import Caller
from smtpgate.core.policy.statement import Determining, PolicyKind
from smtpgate.core.policy.variables import Context
from smtpgate.core.policy.written import Written

Outcome = Literal["allow", "explicit-deny", "implicit-deny"]
SideOutcome = Literal[Outcome, "not-needed"]


class Request(Struct, frozen=True, gc=False):
    """A request: a caller, an action, a resource (an identity), and the context."""

    caller: Caller
    action: str
    resource: str
    context: Context


class NearestMiss(Written, frozen=True, gc=False):
    """The Allow statement that came closest, and the one element of it that did not match.

    ``seen`` is empty if the request has no such value; ``text`` is the statement as JSON, if
    known.
    """

    side: PolicyKind
    policy: str
    sid: str | None
    index: int
    element: str
    wanted: str
    seen: str
    text: str = ""

    def written(self) -> tuple[object, ...]:
        """All but the text of the statement, which is for people."""
        return (
            (self.side, self.policy, self.sid, self.index),
            (self.element, self.wanted, self.seen),
        )

    @property
    def statement(self) -> Determining:
        """The statement."""
        return Determining(self.side, self.policy, self.sid, self.index, self.text)

    def __str__(self) -> str:
        seen = f"`{self.seen}'" if self.seen else "nothing"
        return f"{self.statement} wants {self.element} `{self.wanted}', saw {seen}"


class Side(Struct, frozen=True, gc=False):
    """The outcome of the user policies, or of the identity's policies.

    A side that is not needed may still deny. ``cited`` are the statements that applied with
    that outcome; ``miss`` and ``has_policies`` are set for a side that did not allow.
    """

    name: PolicyKind
    outcome: Outcome
    is_needed: bool = True
    cited: tuple[Determining, ...] = ()
    miss: NearestMiss | None = None
    has_policies: bool = False

    @property
    def result(self) -> SideOutcome:
        """The outcome, or that it was not needed."""
        if self.is_needed or self.outcome == "explicit-deny":
            return self.outcome
        return "not-needed"

    @property
    def sentence(self) -> str:
        """The outcome in a sentence."""
        whose = f"{self.name} policies"
        statements = " and ".join(map(str, self.cited))
        if self.outcome == "explicit-deny":
            return f"{whose} deny it: {statements}"
        if not self.is_needed:
            return f"{whose} are not needed"
        if self.outcome == "allow":
            return f"{whose} allow it: {statements}"
        if self.miss is not None:
            return f"{whose} do not allow it: {self.miss}"
        if self.has_policies:
            return f"{whose} do not allow it: they have no Allow statement"
        return f"{whose} do not allow it: there is no policy"


class Decision(Struct, frozen=True, gc=False):
    """The outcome, and its reasons."""

    outcome: Outcome
    determining: tuple[Determining, ...]
    user_side: Side
    identity_side: Side
    nearest_miss: NearestMiss | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """The outcome of each side in a sentence."""
        return (self.user_side.sentence, self.identity_side.sentence)
