"""Feeds calls of webhooks to django-ses, django-anymail and standardwebhooks, unmodified.

Reads calls as JSON from standard input, a list of objects with ``headers`` and ``body``, and
prints the results of each consumer.
"""

import json
import sys
from typing import Any

import django
from django.conf import settings
from django.test import RequestFactory


def configured(host: str) -> None:
    """Set up Django for both packages."""
    settings.configure(
        SECRET_KEY="consume",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["anymail"],
        AWS_SNS_EVENT_CERT_TRUSTED_DOMAINS=[host],
        ANYMAIL={"WEBHOOK_SECRET": "me:pass"},
    )
    django.setup()


def requests_of(call: dict[str, Any]) -> Any:
    """The call as a request of Django."""
    headers = {name: value for name, value in call["headers"].items() if name != "Content-Type"}
    return RequestFactory().post(
        "/", data=call["body"], content_type=call["headers"]["Content-Type"], headers=headers
    )


def by_django_ses(call: dict[str, Any]) -> list[str]:
    """The signals that django-ses sends, after it has verified the signature."""
    from django_ses import signals
    from django_ses.views import SESEventWebhookView

    found: list[str] = []

    def receive(name: str) -> Any:
        def received(sender: object, mail_obj: dict[str, Any], **_: object) -> None:
            found.append(f"{name} {mail_obj['messageId']}")

        return received

    receivers = []
    for name in ("bounce", "complaint", "delivery", "send"):
        receivers.append(receive(name))
        getattr(signals, f"{name}_received").connect(receivers[-1])
    response = SESEventWebhookView.as_view()(requests_of(call))
    return [str(response.status_code), *found]


def by_anymail(call: dict[str, Any]) -> list[str]:
    """The tracking events of django-anymail."""
    from anymail.signals import tracking
    from anymail.webhooks.amazon_ses import AmazonSESTrackingWebhookView

    found: list[str] = []

    def receive(sender: object, event: Any, **_: object) -> None:
        found.append(f"{event.event_type} {event.recipient} {event.message_id}")

    tracking.connect(receive)
    response = AmazonSESTrackingWebhookView.as_view()(requests_of(call))
    tracking.disconnect(receive)
    return [str(response.status_code), *found]


def by_standardwebhooks(call: dict[str, Any]) -> list[str]:
    """The verdict of the library of Standard Webhooks, and one on a changed body."""
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError

    verifier = Webhook(call["secret"])
    verifier.verify(call["body"], call["headers"])
    try:
        verifier.verify(call["body"] + " ", call["headers"])
    except WebhookVerificationError:
        return ["verified", "refused"]
    return ["verified", "verified"]


def main() -> None:
    """Feed each call to its consumers."""
    read = json.load(sys.stdin)
    configured(read["host"])
    print(
        json.dumps(
            {
                "django-ses": [by_django_ses(call) for call in read["sns"]],
                "anymail": [by_anymail(call) for call in read["sns"]],
                "standardwebhooks": [by_standardwebhooks(call) for call in read["raw"]],
            }
        )
    )


main()
