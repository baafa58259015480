"""The model of the API: it is AWS's, and its values are checked in AWS's words."""

import json

import pytest

from smtpgate.api.served import services
from smtpgate.core.api.constraints import violation_text, violations
from tests.support.api_model import MODEL, made


def test_the_model_is_that_of_botocore_as_it_is_installed() -> None:
    """If this fails: a newer botocore differs for an operation that is served."""
    ours, theirs = json.loads(MODEL.read_text("utf-8")), json.loads(made())
    assert ours["services"] == theirs["services"], "run `python -m tests.support.api_model'"


def test_every_operation_has_a_route_of_its_own_and_every_shape_is_there() -> None:
    for service in services().values():
        for operation in service.operations.values():
            for name in (operation.input, operation.output, *operation.errors):
                assert not name or name in service.shapes, name
        assert not service.refused & set(service.operations)
    routes = [route for one in services()["sesv2"].operations.values() for route in one.routes]
    assert len({(route.method, route.segments) for route in routes}) == len(routes)


@pytest.mark.parametrize(
    ("service", "shape", "values", "wanted"),
    [
        ("ses", "GetSendQuotaResponse", {}, []),
        (
            "ses",
            "SendEmailRequest",
            {"Source": "a@example.com", "Destination": {}, "Message": {"Body": {}}},
            [
                "Value null at 'message.subject' failed to satisfy constraint: "
                "Member must not be null"
            ],
        ),
        (
            "sesv2",
            "PutAccountSuppressionAttributesRequest",
            {"SuppressedReasons": ["BOUNCE", "OTHER"]},
            [
                "Value 'OTHER' at 'suppressedReasons.2.member' failed to satisfy constraint: "
                "Member must satisfy enum value set: [BOUNCE, COMPLAINT]"
            ],
        ),
        (
            "sesv2",
            "CreateEmailIdentityPolicyRequest",
            {"EmailIdentity": "example.com", "PolicyName": "", "Policy": "x"},
            [
                "Value '' at 'policyName' failed to satisfy constraint: "
                "Member must have length greater than or equal to 1"
            ],
        ),
        (
            "ses",
            "ListIdentityPoliciesRequest",
            {},
            ["Value null at 'identity' failed to satisfy constraint: Member must not be null"],
        ),
    ],
)
def test_values_that_break_a_constraint_are_named(
    service: str, shape: str, values: dict[str, object], wanted: list[str]
) -> None:
    assert violations(services()[service], shape, values) == wanted


def test_the_message_counts_what_is_wrong() -> None:
    assert violation_text(["a"]) == "1 validation error detected: a"
    assert violation_text(["a", "b"]) == "2 validation errors detected: a; b"
