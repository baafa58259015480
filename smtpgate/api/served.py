"""The operations that the API serves, from ``model.json`` beside this module."""

import json
from functools import cache
from importlib.resources import files

from smtpgate.core.api.model import Service, read_services


@cache
def services() -> dict[str, Service]:
    """The services by the names that botocore gives them: ses, sesv2, sts, iam and sns."""
    text = files("smtpgate.api").joinpath("model.json").read_text("utf-8")
    return read_services(json.loads(text))
