"""Calls a gate's API with django-ses and django-anymail, unmodified, and prints their results.

Reads the settings as JSON from standard input; the key comes from the environment too.
"""

import json
import sys
from typing import Any

import django
from django.conf import settings
from django.core import mail


def by_django_ses(given: dict[str, Any]) -> dict[str, Any]:
    """Send a message by each version of the API, and ask for what the dashboard shows."""
    from django_ses import SESBackend
    from django_ses.views import DashboardView

    found: dict[str, Any] = {}
    for version in (1, 2):
        backend = SESBackend(use_ses_v2=version == 2)
        message = mail.EmailMessage(
            f"Version {version}",
            "Hello.",
            given["from"],
            ["jane@example.net"],
            bcc=["joe@example.org"],
            connection=backend,
        )
        found[f"sent by version {version}"] = message.send()
        found[f"id by version {version}"] = message.extra_headers["message_id"]
    shown = DashboardView().get_context_data()
    names = ("24hour_quota", "24hour_sent", "persecond_rate", "verified_emails")
    return {**found, **{name: shown[name] for name in names}}


def by_anymail(given: dict[str, Any]) -> dict[str, Any]:
    """Send a message with what anymail adds to Django's."""
    message = mail.EmailMultiAlternatives(
        "Spring",
        "Hello.",
        given["from"],
        ["jane@example.net"],
        connection=mail.get_connection("anymail.backends.amazon_ses.EmailBackend"),
    )
    message.attach_alternative("<p>Hello.</p>", "text/html")
    message.tags = ["spring"]
    sent = message.send()
    status = message.anymail_status
    return {"sent": sent, "id": status.message_id, "status": sorted(status.status)}


def main() -> None:
    """Call with the package that is named."""
    given = json.load(sys.stdin)
    settings.configure(
        INSTALLED_APPS=["anymail"],
        AWS_SES_REGION_NAME=given["region"],
        AWS_SES_REGION_ENDPOINT_URL=given["url"],
        AWS_SES_AUTO_THROTTLE=1,  # asks for the rate before it sends
    )
    django.setup()
    print(json.dumps({"django-ses": by_django_ses, "anymail": by_anymail}[given["by"]](given)))


main()
