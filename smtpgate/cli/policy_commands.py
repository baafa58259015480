"""``smtpgate user policy`` and ``smtpgate identity policy``: the same commands for both."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin import policies
from smtpgate.admin.errors import ConflictError, PolicyFindingsError
from smtpgate.admin.policies import PolicyOwnerRef, PolicyVersion, SavedPolicy
from smtpgate.admin.session import Session
from smtpgate.cli.completion import identity_names, user_names
from smtpgate.cli.editor import Draft
from smtpgate.cli.lint import Remark
from smtpgate.cli.listing import View, print_json, print_rows, shown
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Yes,
    argument,
    confirmed,
    errors,
    example,
    fail,
    is_interactive,
    misused,
    option,
    output,
)
from smtpgate.config.toml import reason
from smtpgate.core.policy import Finding, PolicyKind

_STDIN: Final = Path("-")


def _names(context: typer.Context, incomplete: str) -> list[str]:
    is_identity = " identity " in context.command_path
    return (identity_names if is_identity else user_names)(context, incomplete)


_Subject: TypeAlias = Annotated[
    str,
    argument(
        metavar="ACCOUNT/NAME",
        help="Whose policy; an identity may be named by its ARN too.",
        autocompletion=_names,
    ),
]
_Name: TypeAlias = Annotated[str, argument(metavar="POLICY", help="The policy's name.")]
_Version: TypeAlias = Annotated[
    int | None, option(metavar="N", min=1, help="The version that you saw.")
]


def policy_fields(row: PolicyVersion) -> dict[str, object]:
    """A policy as programs see it, without its text."""
    return {
        "name": row.name,
        "version": row.version,
        "changed_at": row.changed_at,
        "changed_by": row.changed_by,
    }


policy_view: Final[View[PolicyVersion]] = View(
    columns={
        "policy": lambda row: row.name,
        "version": lambda row: row.version,
        "changed": lambda row: row.changed_at,
        "by": lambda row: row.changed_by,
    },
    fields=policy_fields,
    nothing="no policies",
)
_history_view: Final[View[PolicyVersion]] = View(
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
        raise fail(f"{file}: cannot be read: {reason(error)}") from None
    except UnicodeDecodeError:
        raise fail(f"{file}: is not UTF-8 text") from None


def _print_findings(findings: Sequence[Finding], source: str) -> None:
    for finding in findings:
        errors.print(str(Remark(source, finding)))


@dataclass(frozen=True, slots=True)
class PolicyCommands:
    """The commands for the policies of users, or of identities.

    ``owner`` reads the name of a user or an identity; it raises ValueError.
    """

    kind: PolicyKind
    owner: Callable[[str], PolicyOwnerRef]

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

    def _owner(self, subject: str) -> PolicyOwnerRef:
        try:
            return self.owner(subject)
        except ValueError as error:
            raise misused(str(error)) from None

    def put(
        self,
        subject: _Subject,
        name: _Name,
        file: Annotated[
            Path, typer.Argument(metavar="FILE", help="The document; - is standard input.")
        ],
        version: _Version = None,
        config: ConfigFile = DEFAULT_CONFIG,
    ) -> None:
        """Attach a policy; to replace one, say the version that you saw.

        Prints what lint finds. An error keeps the policy from being saved, a warning does not.
        """
        owner, document = self._owner(subject), _read(file)

        async def operation(session: Session) -> SavedPolicy | PolicyFindingsError:
            try:
                return await _put(session, owner, name, document, version)
            except ConflictError as error:
                raise ConflictError(f"{error} (--version N)") from None

        saved = change(config, operation)
        _print_findings(saved.findings, str(file))
        if isinstance(saved, PolicyFindingsError):
            raise fail("nothing was saved")
        _print_saved(name, subject, saved)

    def list(
        self, subject: _Subject, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
    ) -> None:
        """List the policies, with who changed them last."""
        owner = self._owner(subject)
        rows = run(config, lambda session: policies.attached(session, owner))
        print_rows(rows, policy_view, as_json=json)

    def show(
        self,
        subject: _Subject,
        name: _Name,
        version: Annotated[
            int | None, option(metavar="N", min=1, help="An earlier one.")
        ] = None,
        config: ConfigFile = DEFAULT_CONFIG,
        json: AsJson = False,
    ) -> None:
        """Print a policy as it was written, and its version on standard error."""
        owner = self._owner(subject)
        row = run(config, lambda session: policies.get(session, owner, name, version))
        if json:
            print_json(policy_fields(row) | {"document": row.document})
            return
        by, at = shown(row.changed_by), shown(row.changed_at)
        errors.print(f"version {row.version}, changed by {by} at {at}")
        document = row.document or ""
        typer.echo(document, nl=not document.endswith("\n"))

    def edit(self, subject: _Subject, name: _Name, config: ConfigFile = DEFAULT_CONFIG) -> None:
        """Change a policy in your editor ($VISUAL or $EDITOR); save it if it has no errors."""
        owner = self._owner(subject)
        before = run(config, lambda session: policies.get(session, owner, name))
        draft = Draft(f"{name}.json", before.document or "")
        while True:
            text = draft.edit()
            if text == before.document:
                draft.remove()
                output.print("nothing was changed")
                return
            with draft.kept_on_failure():
                put = partial(_put, ref=owner, name=name, document=text, version=before.version)
                saved = change(config, put)
            _print_findings(saved.findings, str(draft.path))
            if isinstance(saved, SavedPolicy):
                break
            if not is_interactive() or not typer.confirm(
                "Edit it again?", default=True, err=True
            ):
                raise fail(f"nothing was saved; {draft.where}")
        draft.remove()
        _print_saved(name, subject, saved)

    def delete(
        self,
        subject: _Subject,
        name: _Name,
        version: _Version = None,
        config: ConfigFile = DEFAULT_CONFIG,
        yes: Yes = False,
    ) -> None:
        """Take a policy away; its history stays, and rollback brings it back."""
        owner = self._owner(subject)
        confirmed(f"this deletes policy {name} of {subject}", yes=yes)
        change(config, lambda session: policies.delete(session, owner, name, version=version))
        output.print(f"policy {name} of {subject} is deleted")

    def history(
        self,
        subject: _Subject,
        name: _Name,
        config: ConfigFile = DEFAULT_CONFIG,
        json: AsJson = False,
    ) -> None:
        """List every version of a policy, the newest first; also of one that was deleted."""
        owner = self._owner(subject)
        rows = run(config, lambda session: policies.history(session, owner, name))
        print_rows(rows, _history_view, as_json=json)

    def rollback(
        self,
        subject: _Subject,
        name: _Name,
        version: Annotated[
            int, typer.Argument(metavar="VERSION", help="The version to go back to.", min=1)
        ],
        config: ConfigFile = DEFAULT_CONFIG,
    ) -> None:
        """Make an earlier version the current one again, as a new version."""
        owner = self._owner(subject)
        saved = change(
            config, lambda session: policies.roll_back(session, owner, name, version)
        )
        _print_findings(saved.findings, f"version {version}")
        _print_saved(name, subject, saved)


async def _put(
    session: Session, ref: PolicyOwnerRef, name: str, document: str, version: int | None
) -> SavedPolicy | PolicyFindingsError:
    """The policy as it was saved, or its findings if they keep it from being saved."""
    try:
        return await policies.put(session, ref, name, document, version=version)
    except PolicyFindingsError as error:
        return error


def _print_saved(name: str, subject: str, saved: SavedPolicy) -> None:
    output.print(f"policy {name} of {subject} is at version {saved.policy.version}")


_PLURAL: Final = {"user": "users", "identity": "identities"}
_SUBJECT: Final = {"user": "999999999999/mailer", "identity": "888888888888/example.com"}
_POLICY: Final = "marketing"
