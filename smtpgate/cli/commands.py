"""The commands: their names, their help, and their modules, each loaded when it is used.

A shell that completes a word, and ``--help``, need names and help alone. To import every
command costs five times as much as the rest of a start.
"""

import gc
import inspect
import re
from functools import cached_property
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_DIRECTORY: Final = "Directory"
_JOURNAL: Final = "Journal"
_LINE_END: Final = re.compile(r"(?<!\n)\n(?!\n)")


class CommandRow(NamedTuple):
    """A command or a family of commands, as the list of commands shows it.

    ``place`` is its module and its name there: a function, or a Typer for a family. ``help`` is
    its first sentence. ``example`` is the end of a line that shows how to use it.
    """

    place: str
    help: str
    panel: str | None = None
    example: str = ""


COMMANDS: Final[dict[str, CommandRow]] = {
    "serve": CommandRow(
        "serve:serve",
        "Run the gate until SIGTERM, then drain; SIGHUP reloads what has changed.",
    ),
    "reload": CommandRow(
        "serve:reload",
        "Have the running gate load what has changed, and wait until all its workers have.",
    ),
    "trace": CommandRow(
        "trace:trace",
        "Show the dialogue of sessions as it goes on, with that of the upstream.",
        example="trace --account 888888888888 --for 60",
    ),
    "top": CommandRow(
        "top:top",
        "Show the load of the gate as it changes: sessions, messages, upstreams, queues.",
        example="top --once",
    ),
    "bans": CommandRow("bans:bans_app", "Show and change the clients that are turned away."),
    "check-config": CommandRow(
        "serve:check_config",
        "Check the configuration, the directory and the journal, and start nothing.",
    ),
    "doctor": CommandRow(
        "doctor:doctor",
        "Examine the gate and all that it needs, and say what is wrong and what to do.",
        example="doctor --address 192.0.2.25 --send-test postmaster@example.com",
    ),
    "init": CommandRow(
        "serve:init",
        "Create a configuration, if there is none, and the keys and secrets that are missing.",
    ),
    "demo": CommandRow(
        "serve:demo",
        "Show a real gate on loopback: messages that it accepts and messages that it refuses.",
    ),
    "help": CommandRow(
        "help:show_help",
        "Show a guide or a reference; without a topic, list the topics.",
        example="help limits",
    ),
    "simulate": CommandRow("simulate:simulate", "Decide about messages without sending them."),
    "policy": CommandRow("policy:policy_app", "Check, generate and test policies."),
    "feedback": CommandRow(
        "feedback:feedback_app", "Read bounces, complaints and delivery reports."
    ),
    "explain": CommandRow(
        "explain:explain",
        "Explain a message: its sender, what decided, what to change, and what came later.",
        _JOURNAL,
        "explain 0100…-000000",
    ),
    "journal": CommandRow(
        "journal:journal_app", "Search the journal of submissions.", _JOURNAL
    ),
    "outbox": CommandRow(
        "outbox:outbox_app",
        "List and retry the events and reports that the gate delivers.",
        _JOURNAL,
    ),
    "impact": CommandRow(
        "impact:impact",
        "Decide again about past messages, as if an identity had another policy.",
        _JOURNAL,
        "impact --policy marketing.json "
        "--identity arn:aws:ses:us-east-1:888888888888:identity/ses-example.com",
    ),
    "usage": CommandRow(
        "usage:usage",
        "Add up messages and recipients by sender and identity, and over time with --by.",
        _JOURNAL,
        "usage --account 888888888888 --since 30d --by day",
    ),
    "account": CommandRow("account:account_app", "Manage accounts.", _DIRECTORY),
    "user": CommandRow("user:user_app", "Manage the users of accounts.", _DIRECTORY),
    "key": CommandRow(
        "key:key_app", "Manage access keys, with which senders log in.", _DIRECTORY
    ),
    "identity": CommandRow(
        "identity:identity_app",
        "Manage identities: domains and addresses that accounts own.",
        _DIRECTORY,
    ),
    "dkim": CommandRow("dkim:dkim_app", "Manage DKIM keys.", _DIRECTORY),
    "quota": CommandRow(
        "quota:quota_app", "Show and change sending limits and their use.", _DIRECTORY
    ),
    "reputation": CommandRow(
        "reputation:reputation_app",
        "Show the bounce and complaint rates of senders; pause and resume them.",
        _DIRECTORY,
    ),
    "topic": CommandRow(
        "topic:topic_app", "Manage topics of notifications and events.", _DIRECTORY
    ),
    "subscription": CommandRow(
        "subscription:subscription_app",
        "Manage the receivers of topics: webhooks and addresses.",
        _DIRECTORY,
    ),
    "configuration-set": CommandRow(
        "configuration_set:configuration_set_app",
        "Manage configuration sets, which publish events.",
        _DIRECTORY,
    ),
    "suppression": CommandRow(
        "suppression:suppression_app",
        "Manage suppression lists: addresses that accounts no longer send to.",
        _DIRECTORY,
    ),
    "audit": CommandRow("audit:audit_app", "Search the audit log of changes.", _DIRECTORY),
    "directory": CommandRow(
        "directory:directory_app",
        "Manage the directory's database: tables, master keys, copies.",
        _DIRECTORY,
    ),
    "apply": CommandRow(
        "documents:apply",
        "Apply what documents changed since they were last applied, in one change.",
        _DIRECTORY,
        "apply /etc/smtpgate/directory --dry-run",
    ),
    "export": CommandRow(
        "documents:export",
        "Write the directory as documents, without secrets, for `smtpgate apply'.",
        _DIRECTORY,
        "export /var/backups/smtpgate/documents --account 888888888888",
    ),
    "backup": CommandRow(
        "directory:back_up",
        "Copy the directory into a file while gates run.",
        _DIRECTORY,
        "backup /var/backups/smtpgate/directory.sqlite",
    ),
}


class Commands(TyperGroup):
    """The commands of the table, none of them loaded yet."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - as TyperGroup takes them
        _name_no_types()
        attributes["commands"] = {
            name: DeferredCommand(name, entry) for name, entry in COMMANDS.items()
        }
        super().__init__(**attributes)


class DeferredCommand(TyperCommand):
    """A command that is imported when it is used, or asked for its parameters."""

    def __init__(self, name: str, entry: CommandRow) -> None:
        super().__init__(name, help=entry.help, rich_help_panel=entry.panel)
        self._entry = entry

    @cached_property
    def loaded(self) -> TyperCommand | TyperGroup:
        """The command itself."""
        module, _, attribute = self._entry.place.partition(":")
        found = getattr(import_module(f"smtpgate.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            family = found
            family.info.help = self._entry.help
        else:
            family = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
            epilog = f"Example: smtpgate {self._entry.example}" if self._entry.example else None
            family.command(self.name, epilog=epilog)(found)
        _fill_paragraphs(family)
        family.info.name = self.name
        family.pretty_exceptions_enable = family._add_completion = False
        command = typer.main.get_command(family)
        assert isinstance(command, TyperCommand | TyperGroup)  # noqa: S101 - as Typer makes them
        command.name = self.name
        return command

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as Click's
        """The context of the command itself."""
        command = self.loaded
        if not gc.isenabled():  # by the entry point, until the imports are done
            gc.freeze()
            gc.enable()
        return command.make_context(*arguments, **options)


def _fill_paragraphs(family: typer.Typer) -> None:
    """Let the terminal wrap the help of all commands.

    Typer does so with the first paragraph; in the others it keeps the line ends of the source.
    """
    for command in family.registered_commands:
        command.help = _LINE_END.sub(" ", inspect.getdoc(command.callback) or "")
    for group in family.registered_groups:
        if group.typer_instance is not None:
            _fill_paragraphs(group.typer_instance)


def _name_no_types() -> None:
    """Keep ``<bool>`` and ``<IdentityRef>`` out of the help.

    Typer 0.29 names a type, of Python's, for options without a value and for all arguments.
    """
    named = getattr(TyperOption, "display_type_rich", None)
    if named is None or getattr(named, "is_ours", False):
        return

    def display_type_rich(option: TyperOption, ctx: typer.Context) -> str | None:
        is_flag = getattr(option, "is_flag", False)
        shown: str | None = None if is_flag else named(option, ctx)
        return shown

    def no_type(_argument: TyperArgument, ctx: typer.Context) -> None:
        return None

    display_type_rich.is_ours = True  # type: ignore[attr-defined]
    setattr(TyperOption, "display_type_rich", display_type_rich)  # noqa: B010 - not all have it
    setattr(TyperArgument, "display_type_rich", no_type)  # noqa: B010 - not all have it
