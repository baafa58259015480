import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from smtpgate.core.notification.sns import (
    SnsEnvelope,
    envelope_headers,
    envelope_json,
    string_to_sign,
)
from smtpgate.core.notification.standard_webhooks import (
    read_webhook_secret,
    signed_headers,
    webhook_secret,
)
from smtpgate.signing.sns import SnsKeyError, SnsSigner
from tests.support.notifications import must_fit

AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
TOPIC = "arn:aws:sns:us-east-1:888888888888:bounces"
ID = "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"
NOTIFICATION = SnsEnvelope(
    type="Notification",
    message_id=ID,
    topic_arn=TOPIC,
    subscription_arn=f"{TOPIC}:6c4a8f7e-0c4e-4c0e-9f5e-0c4e4c0e9f5e",
    message='{"a":1}\n',
    at=AT,
    subject="Amazon SES Email Event Notification",
    unsubscribe_url="https://gate.example.com/sns?Action=Unsubscribe",
)
CONFIRMATION = SnsEnvelope(
    type="SubscriptionConfirmation",
    message_id=ID,
    topic_arn=TOPIC,
    subscription_arn="",
    message="You have chosen",
    at=AT,
    token="2336",
    subscribe_url="https://gate.example.com/sns?Action=ConfirmSubscription",
)


def key_and_certificate(key: rsa.RSAPrivateKey, of: rsa.RSAPrivateKey) -> tuple[bytes, bytes]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gate.example.com")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(of.public_key())
        .serial_number(1)
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=1))
        .sign(of, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, certificate.public_bytes(Encoding.PEM)


@cache
def rsa_key(bits: int, number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def test_the_text_to_sign_has_the_fields_that_there_are_in_the_order_of_their_names() -> None:
    assert string_to_sign(NOTIFICATION) == (
        'Message\n{"a":1}\n\n'
        f"MessageId\n{ID}\n"
        "Subject\nAmazon SES Email Event Notification\n"
        "Timestamp\n2026-01-02T03:04:05.678Z\n"
        f"TopicArn\n{TOPIC}\n"
        "Type\nNotification\n"
    )
    assert string_to_sign(CONFIRMATION) == (
        "Message\nYou have chosen\n"
        f"MessageId\n{ID}\n"
        "SubscribeURL\nhttps://gate.example.com/sns?Action=ConfirmSubscription\n"
        "Timestamp\n2026-01-02T03:04:05.678Z\n"
        "Token\n2336\n"
        f"TopicArn\n{TOPIC}\n"
        "Type\nSubscriptionConfirmation\n"
    )


@pytest.mark.parametrize("envelope", [NOTIFICATION, CONFIRMATION], ids=lambda one: one.type)
@pytest.mark.parametrize(("version", "digest"), [("1", hashes.SHA1()), ("2", hashes.SHA256())])
def test_the_certificate_verifies_what_the_key_signed(
    envelope: SnsEnvelope, version: str, digest: hashes.HashAlgorithm
) -> None:
    signer = SnsSigner(*key_and_certificate(rsa_key(2048), rsa_key(2048)))
    assert version in ("1", "2")
    text = envelope_json(
        envelope,
        version="1" if version == "1" else "2",
        signature=signer.sign(string_to_sign(envelope), "1" if version == "1" else "2"),
        certificate_url=f"https://gate.example.com/{signer.certificate_name}",
    )
    must_fit("sns", text)
    shown = json.loads(text)
    assert shown["SignatureVersion"] == version
    public = x509.load_pem_x509_certificate(signer.certificate_pem).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    signature = base64.b64decode(shown["Signature"])
    public.verify(signature, string_to_sign(envelope).encode(), PKCS1v15(), digest)


def test_the_header_of_an_envelope_names_its_type_and_ids() -> None:
    assert dict(envelope_headers(NOTIFICATION)) == {
        "x-amz-sns-message-type": "Notification",
        "x-amz-sns-message-id": ID,
        "x-amz-sns-topic-arn": TOPIC,
        "x-amz-sns-subscription-arn": NOTIFICATION.subscription_arn,
        "Content-Type": "text/plain; charset=UTF-8",
        "User-Agent": "Amazon Simple Notification Service Agent",
    }
    # A subscription has no ARN before it is confirmed.
    assert "x-amz-sns-subscription-arn" not in dict(envelope_headers(CONFIRMATION))


def test_keys_that_cannot_sign_are_refused() -> None:
    good = key_and_certificate(rsa_key(2048), rsa_key(2048))
    with pytest.raises(SnsKeyError, match="not a PEM file"):
        SnsSigner(b"no key", good[1])
    with pytest.raises(SnsKeyError, match="2048 bits"):
        SnsSigner(*key_and_certificate(rsa_key(1024), rsa_key(1024)))
    with pytest.raises(SnsKeyError, match="not the key's"):
        SnsSigner(*key_and_certificate(rsa_key(2048, 1), rsa_key(2048)))


def test_the_signature_of_standard_webhooks_is_that_of_its_specification() -> None:
    # The example of the specification's libraries.
    secret = read_webhook_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = dict(
        signed_headers(
            secret,
            webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            at=at,
            body=b'{"test": 2432232314}',
        )
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize(
    "text", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_%%%%"]
)
def test_a_secret_that_the_specification_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 octets"):
        read_webhook_secret(text)


def test_a_secret_does_not_print() -> None:
    assert "AAAA" not in repr(webhook_secret(b"\0" * 32))
