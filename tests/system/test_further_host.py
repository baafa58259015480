"""A further host of a directory: ``init --join`` lists the files that it needs."""

import shutil
from pathlib import Path

from tests.support.hosts import host, smtpgate, started


async def test_joining_again_lists_nothing_once_all_is_there(tmp_path: Path) -> None:
    one, two = host(tmp_path / "one"), tmp_path / "two"
    async with started(one):
        pass
    init = ("init", "--join", "--hostname", "gate2.example.com", str(two))
    assert "Copy from another host" in await smtpgate(two, *init)
    for name in ("private/master.key", "state/journal.key"):
        (two / name).parent.mkdir(exist_ok=True)
        (two / name).write_bytes((one / name).read_bytes())
        (two / name).chmod(0o600)
    assert "nothing was missing" in await smtpgate(two, *init)


async def test_the_private_files_that_copied_documents_name_are_listed(tmp_path: Path) -> None:
    one, two = host(tmp_path / "one"), tmp_path / "two"
    shutil.copytree(one, two)
    for path in (two / "private").iterdir():
        path.unlink()
    output = await smtpgate(two, "init", "--join", str(two))
    for name in ("AKIA9999MAILER000001.secret", "ses-example.com.gate1.pem", "master.key"):
        assert str(two / "private" / name) in output
        assert not (two / "private" / name).exists()
    assert (two / "private/tls.crt").exists()
