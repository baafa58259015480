"""The directory as documents: applied three-way after a look at the plan, and exported."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from smtpgate.admin.session import Session
from smtpgate.directory.documents import apply as rows
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.export import export as export_directory
from smtpgate.directory.documents.plan import Drift, Plan, Step
from smtpgate.directory.documents.read import read_desired

Sign: TypeAlias = Literal["+", "~", "-", "!"]

# How a step begins that makes a key useless to its holder.
_REPLACED: Final = ("another secret", "another private key")


@dataclass(frozen=True, slots=True)
class Line:
    """A step of a plan, or with ``!`` a difference that stays."""

    sign: Sign
    _said: Step | Drift

    @property
    def what(self) -> str:
        """The object."""
        return self._said.what

    @property
    def how(self) -> str:
        """The change that it makes."""
        return self._said.how

    @property
    def columns(self) -> Mapping[str, Mapping[str, Any] | None]:
        """The object's fields in the documents before, the documents now, and the directory.

        ``None`` where the object is missing.
        """
        return asdict(self._said.columns)

    def __str__(self) -> str:
        return str(self._said) if isinstance(self._said, Step) else f"! {self._said}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """Documents as they were read, and the plan that applying them would carry out."""

    desired: Desired
    plan: Plan
    prune: bool
    force: bool

    @property
    def warnings(self) -> Sequence[str]:
        """Warnings about the documents."""
        return self.desired.warnings

    @property
    def lines(self) -> Sequence[Line]:
        """The steps in their order, then the differences that stay."""
        return [
            *(Line(step.sign, step) for step in self.plan.steps),
            *(Line("!", drift) for drift in self.plan.drift),
        ]

    @property
    def counts(self) -> Mapping[Sign, int]:
        """The number of steps of each kind, and of differences that stay."""
        return {
            **Counter[Sign](step.sign for step in self.plan.steps),
            "!": len(self.plan.drift),
        }

    @property
    def dangers(self) -> Sequence[str]:
        """Steps to agree to: deletions, and keys that become useless to their holders."""
        gone = self.counts.get("-", 0)
        replaced = sum(step.how.startswith(_REPLACED) for step in self.plan.steps)
        return [
            *([f"deletes {gone} of the directory"] if gone else ()),
            *([f"replaces {replaced} secrets and private keys"] if replaced else ()),
        ]


async def propose(session: Session, path: Path, *, prune: bool, force: bool) -> Proposal:
    """The steps that applying a document, or a folder of documents, would take now.

    Raises DirectoryError with every problem of the documents.
    """
    session.must_be_allowed("ApplyDocuments", "*")
    desired = await asyncio.to_thread(
        read_desired, path, region=session.region, partition=session.partition
    )
    plan = await rows.planned(session.store, desired, prune, force=force)
    return Proposal(desired, plan, prune, force)


async def apply(session: Session, proposal: Proposal) -> None:
    """Carry out a plan in one change, and remember what the documents say.

    Raises ConflictError when the directory was changed after the plan was made.
    """
    session.must_be_allowed("ApplyDocuments", "*")
    async with session.changing() as change:
        await rows.apply(
            change,
            session.store,
            proposal.desired,
            prune=proposal.prune,
            force=proposal.force,
            expected=proposal.plan,
        )


async def export(
    session: Session, folder: Path, accounts: Sequence[str] | None = None
) -> Sequence[Path]:
    """Write accounts, or all, as documents without secrets into a new or empty folder.

    Raises NotFoundError for an account, or OSError.
    """
    session.must_be_allowed("ExportDocuments", "*")
    return await export_directory(session.store, folder, accounts=accounts)
