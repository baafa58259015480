"""The tests of moto for SES and SNS, unmodified, against gates in place of moto.

``tests/cases/api/moto.toml`` lists those that a gate does not pass, each with the reason. One
that it lists and that passes is an error too.
"""

import asyncio
import os
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.support.cases import CASES
from tests.support.motofront import KEY_ID, moto_front
from tests.support.sdist import moto_folder
from tests.support.world import SECRET

HERE: Final = Path(__file__).parent
FILES: Final = {
    "test_ses": ("test_ses.py", "test_ses_sns.py"),
    "test_sesv2": ("test_sesv2.py",),
    "test_sns": ("test_topics.py", "test_subscriptions.py"),
}
LISTED: Final = tomllib.loads((CASES / "api" / "moto.toml").read_text("utf-8"))
# Settings of the tests that run moto's.
NOT_OF_CHILDREN: Final = ("AWS_", "PYTEST_", "COVERAGE_", "COV_")


def environment(url: str, folder: Path) -> dict[str, str]:
    """The settings with which moto's tests call a server in place of moto."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(NOT_OF_CHILDREN)
    }
    return inherited | {
        "TEST_SERVER_MODE": "true",
        "TEST_SERVER_MODE_ENDPOINT": url,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (HERE, folder, folder / "needs"))),
    }


async def outcomes(suite: str, scratch: Path) -> dict[str, str]:
    """The end of each test: empty if all its cases passed, else the error of one."""
    folder, report = moto_folder(), scratch / "report.xml"
    not_run = [name for group in LISTED["not_run"] for name in group["tests"]]
    async with moto_front(scratch) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", "-p", "moto_keys", "-p", "no:cacheprovider"),
            *("--tb=line", "-W", "ignore", f"--junitxml={report}"),
            *(f"--deselect=tests/{name}" for name in not_run),
            *(f"tests/{suite}/{file}" for file in FILES[suite]),
            cwd=folder,
            env=environment(url, folder),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode in {0, 1}, output.decode()  # 1: tests failed
    found: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        file = case.get("classname", "").removeprefix("tests.").replace(".", "/")
        name = f"{file}.py::{case.get('name', '').partition('[')[0]}"
        wrong = [one for kind in ("failure", "error", "skipped") for one in case.iter(kind)]
        found[name] = found.get(name) or (wrong[0].get("message") or "failed" if wrong else "")
    return found


def excluded(suite: str) -> dict[str, str]:
    """The reason for each test that is excluded."""
    pairs = [
        (name, group["because"])
        for group in LISTED["excluded"]
        for name in group["tests"]
        if name.startswith(f"{suite}/")
    ]
    reasons = dict(pairs)
    assert len(reasons) == len(pairs), "a test is there twice"
    return reasons


@pytest.mark.parametrize("suite", FILES)
async def test_all_pass_that_are_true_of_ses(
    suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons, found = excluded(suite), await outcomes(suite, tmp_path)
    passed = {name for name, error in found.items() if not error}
    with capsys.disabled():
        print(f"\n{suite} of moto: {len(passed)} of {len(found)} tests pass; excluded:")  # noqa: T201
        for reason, count in Counter(reasons.values()).items():
            print(f"{count:4} {reason}")  # noqa: T201
    wrong = {name: error for name, error in found.items() if error and name not in reasons}
    assert not wrong, "a gate must pass these: " + "\n".join(map(" ".join, wrong.items()))
    assert passed & set(reasons) == set(), "these pass now: take them out of the list"
    assert set(reasons) - set(found) == set(), "moto has no such tests"
    assert len(passed) >= LISTED["at_least"][suite]
