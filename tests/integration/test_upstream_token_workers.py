"""Access tokens for an upstream, in a gate of several processes: a host asks for one."""

import base64
import os
import signal
import urllib.request

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.gate import SENDER, Gate, GatePlan, letter, logged_in, start_gate, workers_of
from tests.support.oauth_server import Client, OAuthServer, oauth_server
from tests.support.upstream_thread import UpstreamThread, upstream_thread

SECRET = "s3cret"
MAILBOX = "sender@example.com"


def gate_with_tokens(
    lab: Lab, authority: Authority, oauth: OAuthServer, upstream: UpstreamThread
) -> Gate:
    """A gate that logs in with a refresh token, which the server takes once."""
    oauth.rotates = True
    oauth.add(Client("gate", secret=SECRET), refresh_token="refresh-0")
    folder = lab.new_folder("oauth")
    for name, text in (("secret", SECRET), ("refresh", "refresh-0")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    section = (
        f'[upstream.default.oauth]\ntoken_endpoint = "{oauth.url}"\nclient_id = "gate"\n'
        f'grant = "refresh-token"\nclient_secret_file = "{folder}/secret"\n'
        f'refresh_token_file = "{folder}/refresh"\n'
    )
    upstream.server.answers["AUTH"] = lambda line: (
        "235 2.7.0 welcome"
        if oauth.issued and oauth.issued[-1] in plain(line)
        else "535 5.7.8 no"
    )
    port = upstream.server.config().port
    settings: dict[str, str | int] = {"username": MAILBOX}
    return start_gate(
        lab, authority, GatePlan(port, workers=3, upstream=settings, sections=section)
    )


def plain(line: str) -> str:
    """The octets of an AUTH command's initial response."""
    return base64.b64decode(line.rsplit(maxsplit=1)[-1]).decode()


def send(gate: Gate, authority: Authority, name: str) -> None:
    with logged_in(gate, authority.client_context()) as client:
        assert client.sendmail(SENDER, ["bob@example.net"], letter(name, "Hello.\r\n")) == {}


def replace_workers(gate: Gate) -> None:
    """Kill all workers, and wait until others serve."""
    before = workers_of(gate)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    eventually(
        lambda: not set(before.values()) & set(workers_of(gate).values()), "other workers"
    )


def logins(upstream: UpstreamThread) -> int:
    return sum(command.startswith("AUTH") for command in upstream.commands)


def test_all_workers_log_in_with_one_token_and_a_later_worker_too(lab: Lab) -> None:
    authority = Authority(lab)
    upstream = upstream_thread(lab, "AUTH XOAUTH2")
    with oauth_server() as oauth:
        gate = gate_with_tokens(lab, authority, oauth, upstream)
        # Each worker logs in for its first probe already.
        eventually(lambda: logins(upstream) >= 3, "all workers have logged in")
        replace_workers(gate)
        eventually(lambda: logins(upstream) >= 6, "the later workers have logged in")
        send(gate, authority, "first")
        assert len(oauth.requests) == 1
        address = f"http://{LOOPBACK}:{gate.plan.http_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            scrape = answer.read().decode()
        assert 'smtpgate_upstream_token_up{upstream="default"} 1.0' in scrape

        # The server revokes it: one other token is fetched for all workers.
        oauth.issued.append("revoked")
        replace_workers(gate)
        eventually(lambda: oauth.issued[-1] != "revoked", "another token")
        eventually(lambda: logins(upstream) >= 10, "the later workers have logged in")
        send(gate, authority, "second")
        assert len(oauth.requests) == 2
        said = gate.daemon.log()
        assert not [one for one in (*oauth.issued, SECRET, "refresh-") if one in said]
