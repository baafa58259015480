"""The model of the API: it is AWS's, and its values are checked in AWS's words."""

import json

from smtpgate.api.served import services
from smtpgate.core.api.constraints import violation_text, violations
from tests.support.api_model import MODEL, made
from tests.support.rows import rows

POLICY = {"Identity": "example.com", "Policy": "x"}
METRICS = {"Id": "1", "Namespace": "VDM", "Metric": "SEND", "StartDate": 0, "EndDate": 1}


def failed(value: str, where: str, constraint: str) -> str:
    """The sentence about a value."""
    return (
        f"Value '{value}' at '{where}' failed to satisfy constraint: Member must {constraint}"
    )


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


@rows(
    "service, shape, values, wanted",
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
        ("ses", "PutIdentityPolicyRequest", POLICY | {"PolicyName": "n" * 64}, []),
        (
            "ses",
            "PutIdentityPolicyRequest",
            POLICY | {"PolicyName": "n" * 65},
            [failed("n" * 65, "policyName", "have length less than or equal to 64")],
        ),
        (
            "ses",
            "PutIdentityPolicyRequest",
            POLICY | {"PolicyName": "n" * 81},
            [failed("n" * 80 + "…", "policyName", "have length less than or equal to 64")],
        ),
        (
            "sesv2",
            "MessageHeader",
            {"Name": "A B", "Value": "c"},
            [failed("A B", "name", "satisfy regular expression pattern: ^[!-9;-@A-~]+$")],
        ),
        ("sesv2", "DeliveryOptions", {"MaxDeliverySeconds": 300}, []),
        (
            "sesv2",
            "DeliveryOptions",
            {"MaxDeliverySeconds": 299},
            [failed("299", "maxDeliverySeconds", "have value greater than or equal to 300")],
        ),
        (
            "sesv2",
            "DeliveryOptions",
            {"MaxDeliverySeconds": 50401},
            [failed("50401", "maxDeliverySeconds", "have value less than or equal to 50400")],
        ),
        # A map has a size.
        (
            "sesv2",
            "BatchGetMetricDataQuery",
            METRICS | {"Dimensions": {}},
            [
                "Value at 'dimensions' failed to satisfy constraint: "
                "Member must have length greater than or equal to 1"
            ],
        ),
        (
            "sesv2",
            "BatchGetMetricDataQuery",
            METRICS | {"Dimensions": dict.fromkeys("abcd", "x")},
            [
                "Value at 'dimensions' failed to satisfy constraint: "
                "Member must have length less than or equal to 3"
            ],
        ),
        # A private key is not repeated.
        (
            "sesv2",
            "DkimSigningAttributes",
            {"DomainSigningPrivateKey": "no base64!"},
            [
                "Value at 'domainSigningPrivateKey' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: ^[a-zA-Z0-9+\\/]+={0,2}$"
            ],
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
