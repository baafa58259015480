"""The documents against the program: what one says of the other has to be true."""

import ast
import re
import shlex
import tomllib
from itertools import chain
from pathlib import Path
from typing import Final, get_args

import pytest
from msgspec import Struct
from pydantic import BaseModel
from typer.core import TyperCommand

from smtpgate.cli.help import GUIDES, REFERENCES
from smtpgate.config.sections import (
    ApiConfig,
    BansConfig,
    GateConfig,
    LimitsConfig,
    ListenerConfig,
)
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.events import Stage, SubmissionOutcome
from smtpgate.core.limits.budget import BUDGETS, BudgetName
from smtpgate.core.reason import REASONS
from smtpgate.core.reply import CATALOGUE as REPLIES
from smtpgate.log import messages
from smtpgate.metrics import CATALOGUE as METRICS
from tests.support.guides import blocks
from tests.support.reference import (
    GUIDE,
    SAMPLE,
    commands,
    commented_keys,
    documents,
    guide,
    marked,
    tables,
)
from tests.support.rows import rows
from tests.support.source import ROOT, modules

README: Final = (ROOT / "README.md").read_text("utf-8")
MAKEFILE: Final = (ROOT / "Makefile").read_text("utf-8")
RULES: Final = (ROOT / "config" / "prometheus.rules").read_text("utf-8")
ALERT_CASES: Final = (ROOT / "tests/cases/alerts/10-alerts.yml").read_text("utf-8")
CHANGELOG: Final = (ROOT / "CHANGELOG.md").read_text("utf-8")
CONTRIBUTING: Final = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
EVERYTHING: Final = "\n".join(path.read_text("utf-8") for path in documents())


# -- the guides and the references -------------------------------------------------------------


@rows("name", sorted(tables()))
def test_a_table_of_the_documents_is_made_from_the_program(name: str) -> None:
    """``python -m tests.support.reference`` writes the tables again."""
    assert marked(name) == tables()[name]


def test_every_page_is_a_topic_of_smtpgate_help() -> None:
    assert sorted((*GUIDES, *REFERENCES)) == sorted(path.stem for path in GUIDE.glob("*"))


@rows("topic", [*GUIDES, *REFERENCES])
def test_a_page_begins_with_its_title_and_one_sentence_about_it(topic: str) -> None:
    title, summary, _ = guide(topic).split("\n\n", 2)
    assert re.fullmatch(r"# [A-Z].*", title)
    assert re.fullmatch(r"[A-Z][^.]{15,62}\.", summary), summary


@rows("path", documents(), ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    text = _without_blocks(path.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https:"):
            continue
        file, _, anchor = target.partition("#")
        to = path.parent / file if file else path
        assert to.is_file(), target
        assert not anchor or anchor in _anchors(to.read_text("utf-8")), target


def _without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", _without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def test_the_readme_is_short() -> None:
    assert len(README.encode()) < 16_000


def test_the_readme_s_policy_is_the_guide_s() -> None:
    (policy,) = (block.text for block in blocks(README) if block.language == "json")
    assert policy in guide("policies")


def test_few_blocks_of_commands_are_not_run_and_each_has_a_reason() -> None:
    """``tests/system/test_guides.py`` runs the others."""
    found = [block for path in documents() for block in blocks(path.read_text("utf-8"))]
    reasons = [block.not_run for block in found if block.not_run]
    assert all(re.fullmatch(r"[a-z][a-z ]{8,60}", reason) for reason in reasons)
    commands_in = [block for block in found if block.language == "sh"]
    assert len(reasons) <= 8 < len(commands_in) / 4


def test_a_block_of_commands_has_its_language_and_nothing_that_a_shell_would_not_take() -> None:
    for path in documents():
        for block in blocks(path.read_text("utf-8")):
            assert block.language in {"", "sh", "toml", "json", "lua", "yaml"}
            is_shell = block.language == "sh"
            assert is_shell or not re.search(r"^smtpgate ", block.text, re.MULTILINE)
            assert not is_shell or not re.search(r"^\$ |…", block.text, re.MULTILINE)


# -- the log -----------------------------------------------------------------------------------


def test_every_event_of_the_log_is_in_its_reference() -> None:
    source = "\n".join(one.text for one in modules() if one.path.startswith("smtpgate/"))
    noted = re.findall(r'\.note\(\s*"[a-z]+"(?: if \w+ else "[a-z]+")?,\s*"([a-z -]+)"', source)
    lines = re.findall(r'line_?of?\([^()]*(?:\(\))?[^()]*"([a-z]+-[a-z-]+)"', source)
    assert len(noted) > 8
    assert len(lines) > 15
    assert not [event for event in {*noted, *lines} if f"`{event}`" not in guide("log")]


def test_every_field_of_the_log_is_in_its_reference() -> None:
    (module,) = (one for one in modules() if one.path == "smtpgate/log/lines.py")
    fields = {
        key.value
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    for struct in vars(messages).values():
        if isinstance(struct, type) and struct.__module__ == messages.__name__:
            assert issubclass(struct, Struct)
            fields.update(struct.__struct_encode_fields__)
    assert len(fields) > 50
    assert not [field for field in sorted(fields) if f"`{field}`" not in guide("log")]


# -- commands ----------------------------------------------------------------------------------


def test_every_command_is_in_the_reference_and_says_what_it_does() -> None:
    output = re.findall(r"^\| `([^`]+)` \| .+ \|$", marked("commands"), re.MULTILINE)
    for words, command in commands().items():
        assert any(f"{one} ".startswith(f"{words} ") for one in output), words
        assert command.help
    for one in output:
        assert any(f"{one} ".startswith(f"{words} ") for words in commands()), one


def test_every_command_of_the_directory_has_an_example_that_can_be_typed() -> None:
    for words, command in commands().items():
        if command.epilog is None:
            continue
        _, _, line = command.epilog.partition("Example: ")
        assert line.startswith(f"{words} ") or line == words
        arguments = shlex.split(line.removeprefix(words))
        assert command.make_context(words, arguments).params


def test_every_smtpgate_command_line_in_the_documents_can_be_typed() -> None:
    text = "\n".join((EVERYTHING, CONTRIBUTING, SAMPLE.read_text("utf-8"), unit()))
    typed = re.findall(r"(?:^|[\s`/])smtpgate ((?:[a-z]+(?:-[a-z]+)*)(?: --[a-z-]+)*)", text)
    known = {words.removeprefix("smtpgate "): command for words, command in commands().items()}
    lines = [line.split() for line in typed if line.split()[0] in _first_words(known)]
    assert lines
    for name, *options in lines:
        for command in (known[words] for words in known if words.split()[0] == name):
            offered = {option for parameter in command.params for option in parameter.opts}
            assert set(options) <= offered, f"smtpgate {name} {options}"


def _first_words(known: dict[str, TyperCommand]) -> set[str]:
    return {words.split()[0] for words in known}


def test_every_filter_of_the_systems_journal_passes_over_lines_that_are_not_json() -> None:
    """The journal of a unit has systemd's lines too, and jq ends at one that is not JSON."""
    filters = [line for line in EVERYTHING.splitlines() if line.startswith("journalctl")]
    assert filters
    assert all("| jq -cR 'fromjson? | select(" in line for line in filters)


@pytest.mark.parametrize("document", [README, CONTRIBUTING])
def test_every_make_target_in_the_documents_is_in_the_makefile(document: str) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", document, re.DOTALL)
    named = re.findall(r"^make ([a-z-]+)", "\n".join(blocks), re.MULTILINE)
    named += re.findall(r"`make ([a-z-]+)`", document)
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert {"demo", "test"} <= set(named)
    assert set(named) <= targets


# -- the way of a message ----------------------------------------------------------------------


def test_the_stages_stand_in_the_guide_in_the_pipelines_order() -> None:
    pipeline = next(one.text for one in modules() if one.path == "smtpgate/pipeline.py")
    carried = re.findall(r'began_s\["([a-z]+)"\]', pipeline)
    assert carried == list(get_args(Stage))
    output = re.findall(r"^[ │]*[1-9] ([a-z]+)", guide("message"), re.MULTILINE)
    assert [stage for stage in output if stage in carried] == carried


# -- alert rules -------------------------------------------------------------------------------


def selectors() -> list[tuple[str, str]]:
    """Each metric that the alert rules name, with its label matchers."""
    return re.findall(r"\b(smtpgate_[a-z0-9_]+)(?:\{([^}]*)\})?", RULES)


def metric_of(name: str) -> str:
    """The catalogue's name of a series: a histogram has three."""
    base = re.sub(r"_(?:bucket|sum|count)$", "", name)
    return base if base in METRICS and METRICS[base].kind == "histogram" else name


def test_every_metric_in_the_alert_rules_exists_with_those_labels() -> None:
    assert selectors()
    for name, matchers in selectors():
        row = METRICS[metric_of(name)]
        assert set(re.findall(r"([a-z]+)=", matchers)) <= set(row.labels), name


def test_every_value_in_the_alert_rules_can_occur() -> None:
    can_occur = {"outcome": set(get_args(SubmissionOutcome)), "reason": {*REASONS, "accepted"}}
    for name, matchers in selectors():
        for label, values in re.findall(r'([a-z]+)=~?"([^"]*)"', matchers):
            if label in can_occur:
                assert set(values.split("|")) <= can_occur[label], name


def test_every_alert_has_an_expression_a_severity_and_a_summary() -> None:
    alerts = RULES.split("- alert: ")[1:]
    assert len({alert.partition("\n")[0] for alert in alerts}) == len(alerts) > 5
    for alert in alerts:
        for wanted in ("expr: ", "severity: ", "summary: "):
            assert alert.count(wanted) == 1, alert


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    """``promtool test rules`` runs them, in the integration tests."""
    alerts = set(re.findall(r"- alert: ([A-Za-z]+)", RULES))
    assert alerts == set(re.findall(r'alertname="([A-Za-z]+)"', ALERT_CASES))


# -- budgets -----------------------------------------------------------------------------------

SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "api": ApiConfig,
    "bans": BansConfig,
    "gate": GateConfig,
    "limits": LimitsConfig,
    "listener": ListenerConfig,
    "upstream": UpstreamConfig,
}


@rows("name", BUDGETS)
def test_every_budget_has_its_key_with_a_comment_and_its_reply(name: BudgetName) -> None:
    budget = BUDGETS[name]
    assert budget.key in {key for key, _, comment in commented_keys() if comment}
    section, _, key = budget.key.rpartition(".")
    assert not SECTIONS[section.partition(".")[0]].model_fields[key].is_required()
    if budget.reply:
        assert not REPLIES[budget.reply].is_positive


def test_every_budget_has_a_name_that_the_code_may_use() -> None:
    assert tuple(BUDGETS) == get_args(BudgetName)


# -- systemd -----------------------------------------------------------------------------------


def unit() -> str:
    """The service's unit file."""
    return (ROOT / "systemd" / "smtpgate.service").read_text("utf-8")


def setting(name: str) -> str:
    """The last value of a directive in the unit."""
    return str(re.findall(rf"^{name}=(.*)$", unit(), re.MULTILINE)[-1])


def test_the_unit_leaves_time_to_drain() -> None:
    drain_s = GateConfig.model_fields["drain_s"].default
    deadline_s = UpstreamConfig.model_fields["deadline_s"].default
    max_wait_s = LimitsConfig.model_fields["max_wait_s"].default
    assert int(setting("TimeoutStopSec")) >= drain_s + deadline_s + max_wait_s + 15 + 30
    assert setting("KillSignal") == "SIGTERM"
    assert setting("Type") == "notify"


def test_the_unit_runs_as_the_user_that_sysusers_makes() -> None:
    sysusers = (ROOT / "systemd" / "smtpgate.sysusers").read_text("utf-8")
    assert re.findall(r"^u ([a-z]+) ", sysusers, re.MULTILINE) == [setting("User")]


# -- the other documents -----------------------------------------------------------------------


def test_contributing_names_every_dependency_and_what_it_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = {
        re.split(r"[<>=;\[ ]", dependency)[0]
        for dependency in chain(project["dependencies"], *extras)
    }
    table = CONTRIBUTING.partition("<!-- dependencies -->")[2].partition("<!-- /dep")[0]
    assert set(re.findall(r"^\| ([\w.-]+) \| .{10,} \|$", table, re.MULTILINE)) == wanted


def test_contributing_names_modules_and_folders_that_exist() -> None:
    named = re.findall(
        r"`((?:smtpgate|tests|config|systemd|\.github)/[\w./*-]*)`", CONTRIBUTING
    )
    assert named
    assert not [path for path in named if not list(ROOT.glob(path.rstrip("/")))]


def test_contributing_s_layout_has_every_room() -> None:
    picture = CONTRIBUTING.partition("<!-- layout -->")[2].partition("<!-- /layout -->")[0]
    above: list[str] = []
    drawn = set()
    for indent, name in re.findall(r"^( *)([\w.]+/?)(?: +\S.*)?$", picture, re.MULTILINE):
        above[len(indent) // 2 :] = [name]
        drawn.add("".join(above))
    rooms = {
        f"{path.relative_to(ROOT).as_posix()}/"
        for top in ("smtpgate", "smtpgate/core", "tests")
        for path in (ROOT / top).iterdir()
        if path.is_dir()
        and path.name[0].isalpha()
        and any(one.name != "__pycache__" for one in path.iterdir())
    }
    modules_above = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "smtpgate").glob("[!_]*.py")
    }
    assert drawn == rooms | modules_above | {"smtpgate/", "tests/", "config/", "systemd/"}


def test_the_changelog_tells_what_is_not_yet_released_first() -> None:
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "Unreleased"


@pytest.mark.parametrize("document", [EVERYTHING, CHANGELOG, CONTRIBUTING])
def test_no_document_has_the_marks_of_an_unfinished_merge(document: str) -> None:
    assert not re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", document, re.MULTILINE)
