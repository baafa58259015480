"""``smtpgate user policy`` and ``smtpgate identity policy``: policies where they are attached.

The same commands for both. Whoever replaces a policy says which version was read, so that
nobody undoes another's change without having seen it.
"""

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol, TypeAlias

import typer

from smtpgate.admin.session import Session
from smtpgate.cli.completion import identity_names, user_names
from smtpgate.cli.drafts import Draft
from smtpgate.cli.lint import Remark, findings
from smtpgate.cli.listing import View, print_json, print_rows, shown
from smtpgate.cli.session import run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Yes,
    confirmed,
    errors,
    example,
    fail,
    is_interactive,
    misused,
    output,
)
from smtpgate.core.policy import Kind
from smtpgate.directory.change import ConflictError, NotFoundError
from smtpgate.directory.policies import (
    PolicyOwner,
    PolicyRow,
    delete_policy,
    policies_of,
    policy_history,
    put_policy,
    roll_back_policy,
)
from smtpgate.directory.policy_owners import FindPolicyOwner

_STDIN: Final = Path("-")


class Named(Protocol):
    """A user or an identity, as it was named."""

    def find(self, session: Session) -> FindPolicyOwner:
        """What finds its policies, if it is there."""

    def place(self, session: Session) -> PolicyOwner:
        """Where its policies are, or were."""


def _names(context: typer.Context, incomplete: str) -> list[str]:
    is_identity = " identity " in context.command_path
    return (identity_names if is_identity else user_names)(context, incomplete)


_Subject: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="ACCOUNT/NAME",
        help="Whose policy; an identity may be named by its ARN too.",
        autocompletion=_names,
        show_default=False,
    ),
]
_Name: TypeAlias = Annotated[
    str, typer.Argument(metavar="POLICY", help="The policy's name.", show_default=False)
]
_Version: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="The version that you saw.", show_default=False),
]


def policy_fields(row: PolicyRow) -> dict[str, object]:
    """A policy as programs see it, without its text."""
    return {
        "name": row.name,
        "version": row.version,
        "changed_at": row.changed_at,
        "changed_by": row.changed_by,
    }


policy_view: Final[View[PolicyRow]] = View(
    columns={
        "policy": lambda row: row.name,
        "version": lambda row: row.version,
        "changed": lambda row: row.changed_at,
        "by": lambda row: row.changed_by,
    },
    fields=policy_fields,
    nothing="no policies",
)
_history_view: Final[View[PolicyRow]] = View(
    columns={
        "version": lambda row: row.version,
        "changed": lambda row: row.changed_at,
        "by": lambda row: row.changed_by,
        "what": lambda row: "deleted" if row.document is None else "put",
    },
    fields=lambda row: policy_fields(row) | {"document": row.document},
    nothing="no versions",
)


def _read(file: Path) -> str:
    """The document in a file, or on standard input. Exits with 1 when it cannot be read."""
    try:
        octets = sys.stdin.buffer.read() if file == _STDIN else file.read_bytes()
        return octets.decode("utf-8")
    except OSError as error:
        raise fail(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise fail(f"{file}: is not UTF-8 text") from None


def _is_good(place: PolicyOwner, name: str, document: str, source: str) -> bool:
    """Whether the document may stand there; what is wrong or unwise is told."""
    arn = place.identity_arn or None
    remarks = [
        Remark(source, finding)
        for finding in findings(document.encode(), name, place.kind, arn)
    ]
    for remark in remarks:
        errors.print(str(remark))
    return not any(remark.is_error for remark in remarks)


@dataclass(frozen=True, slots=True)
class AttachedPolicies:
    """The commands for the policies of users, or of identities.

    ``named`` reads the name of one; it raises ValueError.
    """

    kind: Kind
    named: Callable[[str], Named]

    def app(self) -> typer.Typer:
        """The commands."""
        app = typer.Typer(
            name="policy",
            help=f"Policies that are attached to {_PLURAL[self.kind]}.",
            no_args_is_help=True,
        )
        subject = _SUBJECT[self.kind]
        commands: Sequence[tuple[str, Callable[..., None], str]] = (
            ("put", self.put, f"put {subject} {_POLICY} {_POLICY}.json"),
            ("list", self.list, f"list {subject}"),
            ("show", self.show, f"show {subject} {_POLICY}"),
            ("edit", self.edit, f"edit {subject} {_POLICY}"),
            ("delete", self.delete, f"delete {subject} {_POLICY}"),
            ("history", self.history, f"history {subject} {_POLICY}"),
            ("rollback", self.rollback, f"rollback {subject} {_POLICY} 1"),
        )
        for name, command, line in commands:
            epilog = example(f"{self.kind} policy {line}")
            app.command(name, epilog=epilog)(command)
        return app

    def _named(self, subject: str) -> Named:
        try:
            return self.named(subject)
        except ValueError as error:
            raise misused(str(error)) from None

    def put(
        self,
        subject: _Subject,
        name: _Name,
        file: Annotated[
            Path,
            typer.Argument(metavar="FILE", help="The document; - is standard input."),
        ],
        version: _Version = None,
        config: ConfigFile = DEFAULT_CONFIG,
    ) -> None:
        """Attach a policy; to replace one, say the version that you saw.

        What lint finds is told. An error keeps the policy from being saved, a warning does not.
        """
        named, document = self._named(subject), _read(file)
        row = self._put(config, named, name, document, version, str(file))
        output.print(f"policy {name} of {subject} is at version {row.version}")

    def _put(
        self,
        config: Path,
        named: Named,
        name: str,
        document: str,
        version: int | None,
        source: str | None,
    ) -> PolicyRow:
        async def operation(session: Session) -> PolicyRow:
            async with session.changing() as change:
                place = await named.find(session)(change.connection)
                if source is not None and not _is_good(place, name, document, source):
                    raise fail("nothing was saved")
                try:
                    return await put_policy(
                        change, place, name, document, expected_version=version
                    )
                except ConflictError as error:
                    raise ConflictError(f"{error} (--version N)") from None

        return run(config, operation, changes=True)

    def list(
        self, subject: _Subject, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
    ) -> None:
        """List the policies, with who changed them last."""
        named = self._named(subject)

        async def operation(session: Session) -> Sequence[PolicyRow]:
            async with session.store.reading() as connection:
                return await policies_of(connection, await named.find(session)(connection))

        print_rows(run(config, operation), policy_view, as_json=json)

    def show(
        self,
        subject: _Subject,
        name: _Name,
        version: Annotated[
            int | None,
            typer.Option(metavar="N", min=1, help="An earlier one.", show_default=False),
        ] = None,
        config: ConfigFile = DEFAULT_CONFIG,
        json: AsJson = False,
    ) -> None:
        """Print a policy as it was written; its version is told on standard error."""
        row = self._row(config, self._named(subject), subject, name, version)
        if json:
            print_json(policy_fields(row) | {"document": row.document})
            return
        by, at = shown(row.changed_by), shown(row.changed_at)
        errors.print(f"version {row.version}, changed by {by} at {at}")
        document = row.document or ""
        typer.echo(document, nl=not document.endswith("\n"))

    def _row(
        self, config: Path, named: Named, subject: str, name: str, version: int | None
    ) -> PolicyRow:
        async def operation(session: Session) -> PolicyRow:
            async with session.store.reading() as connection:
                if version is None:
                    place = await named.find(session)(connection)
                    rows = await policies_of(connection, place)
                    found = [row for row in rows if row.name == name]
                else:
                    rows = await policy_history(connection, named.place(session), name)
                    found = [row for row in rows if row.version == version and row.document]
            if not found:
                at = "" if version is None else f" with a version {version}"
                raise NotFoundError(f"{self.kind} {subject} has no policy `{name}'{at}")
            return found[0]

        return run(config, operation)

    def edit(self, subject: _Subject, name: _Name, config: ConfigFile = DEFAULT_CONFIG) -> None:
        """Change a policy in your editor ($VISUAL or $EDITOR); it is saved when it is good."""
        named = self._named(subject)
        before = self._row(config, named, subject, name, None)
        document = before.document or ""
        draft = Draft(f"{name}.json", document)
        place = run(config, _place_of(named))
        while True:
            text = draft.edit()
            if text == document:
                draft.drop()
                output.print("nothing was changed")
                return
            if _is_good(place, name, text, str(draft.path)):
                break
            if not is_interactive() or not typer.confirm(
                "Edit it again?", default=True, err=True
            ):
                raise fail(f"nothing was saved; {draft.where}")
        try:
            row = self._put(config, named, name, text, before.version, None)
        except typer.Exit:
            draft.keep()
            raise
        draft.drop()
        output.print(f"policy {name} of {subject} is at version {row.version}")

    def delete(
        self,
        subject: _Subject,
        name: _Name,
        version: _Version = None,
        config: ConfigFile = DEFAULT_CONFIG,
        yes: Yes = False,
    ) -> None:
        """Take a policy away; its history stays, and rollback brings it back."""
        named = self._named(subject)
        confirmed(f"this deletes policy {name} of {subject}", yes=yes)

        async def operation(session: Session) -> None:
            async with session.changing() as change:
                place = await named.find(session)(change.connection)
                await delete_policy(change, place, name, expected_version=version)

        run(config, operation, changes=True)
        output.print(f"policy {name} of {subject} is deleted")

    def history(
        self,
        subject: _Subject,
        name: _Name,
        config: ConfigFile = DEFAULT_CONFIG,
        json: AsJson = False,
    ) -> None:
        """List every version of a policy, the newest first; also of one that was deleted."""
        named = self._named(subject)

        async def operation(session: Session) -> Sequence[PolicyRow]:
            async with session.store.reading() as connection:
                return await policy_history(connection, named.place(session), name)

        print_rows(run(config, operation), _history_view, as_json=json)

    def rollback(
        self,
        subject: _Subject,
        name: _Name,
        version: Annotated[
            int, typer.Argument(metavar="VERSION", help="The version to go back to.", min=1)
        ],
        config: ConfigFile = DEFAULT_CONFIG,
    ) -> None:
        """Let an earlier version hold again, as a new version."""
        named = self._named(subject)

        async def operation(session: Session) -> PolicyRow:
            async with session.changing() as change:
                place = await named.find(session)(change.connection)
                return await roll_back_policy(change, place, name, version)

        row = run(config, operation, changes=True)
        output.print(f"policy {name} of {subject} is at version {row.version}")


def _place_of(named: Named) -> Callable[[Session], Awaitable[PolicyOwner]]:
    async def operation(session: Session) -> PolicyOwner:
        return named.place(session)

    return operation


_PLURAL: Final = {"user": "users", "identity": "identities"}
_SUBJECT: Final = {"user": "999999999999/mailer", "identity": "888888888888/example.com"}
_POLICY: Final = "marketing"
