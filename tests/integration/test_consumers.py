"""Software that receives notifications, unmodified, with bodies as the gate sends them."""

import base64
import importlib.util
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from msgspec.structs import replace

from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.core.notification.names import SnsArn
from smtpgate.core.notification.settings import SignatureVersion, Subscription, SubscriptionForm
from smtpgate.core.outbox.task import Destination, DestinationForm, LeasedTask, Task
from smtpgate.core.secret import Secret
from smtpgate.gate.notifications import open_sns_face
from smtpgate.webhooks.carrier import SnsFace, Webhooks
from tests.support.daemons import missing, need
from tests.support.notifications import BOUNCE, COMPLAINT, DELIVERY, MAIL, SEND
from tests.support.npm import npm_folder
from tests.support.webhooks import Calls

pytestmark = pytest.mark.integration

HERE: Final = Path(__file__).parent
TOPIC: Final = SnsArn("aws", "us-east-1", "888888888888", "bounces")
SUBSCRIPTION: Final = replace(TOPIC, id="00010203-0405-0607-0809-0a0b0c0d0e0f")
SECRET: Final = Secret("whsec_" + base64.b64encode(bytes(range(32))).decode())
PACKAGES: Final = {"sns-validator": "0.3.5", "standardwebhooks": "1.1.1"}


@contextmanager
def serving(authority: trustme.CA, documents: dict[str, bytes]) -> Iterator[int]:
    """An HTTPS server at localhost, as a web server in front of a gate; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = documents.get(self.path.removeprefix("/"))
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def config(folder: Path, port: int) -> Config:
    return Config.model_validate(
        {
            "gate": {"hostname": "gate.example.com", "state_dir": folder},
            "listener": {"a": {"port": 0, "tls": "none", "allow_plaintext_auth": True}},
            "upstream": {"u": {"host": "127.0.0.1", "port": 25, "tls": "off"}},
            "notifications": {"base_url": f"https://localhost:{port}"},
        }
    )


async def call(
    face: SnsFace,
    event: Any,  # noqa: ANN401 - any kind
    form: SubscriptionForm,
    shape: DestinationForm,
    version: SignatureVersion = "1",
) -> dict[str, Any]:
    """The call of one event, as it goes out."""
    one = Subscription(
        arn=str(SUBSCRIPTION),
        topic_arn=str(TOPIC),
        form=form,
        endpoint="https://hooks.example.com/",
        is_confirmed=True,
        signature_version=version,
        secret=SECRET,
    )

    async def find(account_id: str, topic: str) -> Sequence[Subscription]:
        return (one,)

    calls = Calls()
    webhooks = Webhooks(calls, find, face, SystemClock())
    task = Task(event, Destination("webhook", one.arn, "888888888888", shape))
    await webhooks.carry(LeasedTask(task, 1, datetime.now(UTC)))
    ((_, headers, body, _),) = calls.calls
    basic = base64.b64encode(b"me:pass").decode()
    return {
        "headers": {**headers, "Authorization": f"Basic {basic}"},
        "body": body.decode(),
        "secret": SECRET.value,
    }


def must_have(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            missing(f"{package} is not installed: `pip install -e .[dev]'")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[SnsFace, Path, int]]:
    """The gate's face to receivers, the authority of its web server, and that one's port."""
    authority, documents = trustme.CA(), dict[str, bytes]()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    with serving(authority, documents) as port:
        face = open_sns_face(config(tmp_path, port), datetime.now(UTC))
        assert face is not None
        documents[face.signer.certificate_name] = face.signer.certificate_pem
        yield face, ca_file, port


def run(command: Sequence[str | Path], given: object, ca_file: Path) -> Any:  # noqa: ANN401 - JSON
    trust = {"REQUESTS_CA_BUNDLE": str(ca_file), "NODE_EXTRA_CA_CERTS": str(ca_file)}
    done = subprocess.run(
        command,
        input=json.dumps(given),
        env=os.environ | trust,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_django_ses_anymail_and_standardwebhooks_take_what_the_gate_sends(
    served: tuple[SnsFace, Path, int],
) -> None:
    must_have("django_ses", "anymail", "standardwebhooks")
    face, ca_file, port = served
    sns = [
        await call(face, BOUNCE, "sns", "notification"),
        await call(face, COMPLAINT, "sns", "notification-with-headers"),
        await call(face, DELIVERY, "sns", "notification"),
        await call(face, BOUNCE, "sns", "event"),
        await call(face, SEND, "sns", "event"),
    ]
    raw = [await call(face, BOUNCE, "raw", "notification")]
    forged = dict(sns[0], body=sns[0]["body"].replace("nobody@", "anyone@"))
    given = {"host": f"localhost:{port}", "sns": [*sns, forged], "raw": raw}
    found = run([sys.executable, HERE / "consume.py"], given, ca_file)
    kinds = ("bounce", "complaint", "delivery", "bounce", "send")
    wanted = [["200", f"{kind} {MAIL.message_id}"] for kind in kinds]
    assert found["django-ses"] == [*wanted, ["400"]]
    assert [one[0] for one in found["anymail"]] == ["200"] * 6  # it checks no signature
    assert found["anymail"][0][1:] == [f"bounced nobody@example.net {MAIL.message_id}"]
    assert found["anymail"][1][1:] == [f"complained r@example.net {MAIL.message_id}"]
    assert found["anymail"][2][1:] == [f"delivered ok@example.net {MAIL.message_id}"]
    assert found["standardwebhooks"] == [["verified", "refused"]]


async def test_sns_validator_and_standardwebhooks_of_npm_verify_what_the_gate_sends(
    served: tuple[SnsFace, Path, int],
) -> None:
    face, ca_file, port = served
    sns = [
        await call(face, BOUNCE, "sns", "notification"),
        await call(face, SEND, "sns", "event"),
        await call(face, DELIVERY, "sns", "event", "2"),
    ]
    raw = [await call(face, COMPLAINT, "raw", "event")]
    folder = npm_folder("consumers", PACKAGES)
    given = {"host": f"localhost:{port}", "sns": sns, "raw": raw}
    command: list[str | Path] = [need("node", "nodejs"), HERE / "consume.mjs", folder]
    found = run(command, given, ca_file)
    refused = "refused: The message signature is invalid."
    assert found["sns-validator"] == [["valid", refused]] * 3
    assert found["standardwebhooks"] == [["verified", "refused"]]
