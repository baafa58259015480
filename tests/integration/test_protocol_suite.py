"""AWS's own protocol tests, which come with botocore's source, run backwards.

They say what a client writes for values, and which values it reads in an answer; a server reads
the one and writes the other. Cases of traits that no model served here has are left out.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import botocore.model
import botocore.parsers
import pytest

from smtpgate.core.api.model import Service, read_services
from smtpgate.core.api.percent import query_pairs
from smtpgate.core.api.query import query_input, query_output, read_query
from smtpgate.core.api.rest import rest_input, rest_operation, rest_output
from tests.support.api_model import operation_of, shape_of
from tests.support.sdist import botocore_folder

# Traits of shapes, members and operations that the models served have not.
_OTHER_TRAITS: Final = frozenset(
    {
        *("flattened", "xmlNamespace", "timestampFormat", "streaming", "payload", "jsonvalue"),
        *("idempotencyToken", "union", "document", "hostLabel", "xmlAttribute", "eventstream"),
        *("event", "endpoint", "requestcompression", "httpChecksum", "httpChecksumRequired"),
        *("error", "eventpayload", "eventheader"),
    }
)
# Numbers that JSON has not, and hosts with a path.
_OTHER_CASES: Final = ("NaN", "Infinity", "HostWithPath")
_OTHER_PLACES: Final = frozenset({"header", "headers", "statusCode"})


def suites(kind: str, protocol: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each case with its suite."""
    folder = botocore_folder() / "tests/unit/protocols" / kind
    for suite in json.loads((folder / f"{protocol}.json").read_text()):
        for case in suite["cases"]:
            yield suite, case


def is_of_ses(suite: Mapping[str, Any], case: Mapping[str, Any]) -> bool:
    """True if the case needs nothing but what the models served have, and numbers of JSON."""
    if any(word in case["id"] for word in _OTHER_CASES):
        return False
    uri = case["given"]["http"]["requestUri"]
    if _OTHER_TRAITS & set(case["given"]) or "+}" in uri or "?" in uri:
        return False
    for shape in suite["shapes"].values():
        members = list(shape.get("members", {}).values())
        parts = [shape[part] for part in ("member", "key", "value") if part in shape]
        for one in (shape, *members, *parts):
            if one.get("location") == "querystring":
                of = suite["shapes"][one["shape"]]["type"]
                if of == "map":
                    return False
            named = "locationName" in one and one.get("location") not in {"uri", "querystring"}
            if _OTHER_TRAITS & set(one) or one.get("location") in _OTHER_PLACES or named:
                return False
    return True


def service_of(suite: Mapping[str, Any], case: Mapping[str, Any]) -> Service:
    given = case["given"]
    if suite["metadata"]["protocol"] == "query" and "output" in given:
        # In AWS's models it is there.
        given["output"]["resultWrapper"] = f"{given['name']}Result"
    document = {
        "version": suite["metadata"]["apiVersion"],
        "namespace": "https://example.com/",
        "operations": {given["name"]: operation_of(given)},
        "shapes": {name: shape_of(shape) for name, shape in suite["shapes"].items()},
        "refused": [],
    }
    return read_services({"services": {"suite": document}})["suite"]


def plain(value: Any) -> Any:  # noqa: ANN401 - any value
    """The value as the suite writes it."""
    match value:
        case datetime():
            return value.timestamp()
        case bytes():
            return value.decode("latin-1")
        case dict():
            kept = {name: one for name, one in value.items() if one not in (None, [], {})}
            return {name: plain(one) for name, one in kept.items()}
        case list():
            return [plain(one) for one in value]
        case _:
            return value


def typed(  # noqa: PLR0911 - a row a kind
    service: Service,
    name: str,
    value: Any,  # noqa: ANN401 - any value
) -> Any:  # noqa: ANN401 - any value
    """A value of the suite as Python has it."""
    shape = service.shapes[name]
    if value is None:
        return None
    match shape.kind:
        case "structure":
            members = shape.members
            return {m: typed(service, members[m].shape, one) for m, one in value.items()}
        case "list":
            return [typed(service, shape.item, one) for one in value]
        case "map":
            return {key: typed(service, shape.value, one) for key, one in value.items()}
        case "timestamp":
            return datetime.fromtimestamp(value, UTC)
        case "blob":
            return value.encode("latin-1")
        case _:
            return value


@pytest.mark.parametrize(
    ("protocol", "run", "left_out"), [("query", 12, 26), ("rest-json", 19, 94)]
)
def test_what_clients_write_is_read(protocol: str, run: int, left_out: int) -> None:
    counts = {True: 0, False: 0}
    for suite, case in suites("input", protocol):
        fits = is_of_ses(suite, case)
        counts[fits] += 1
        if not fits:
            continue
        service = service_of(suite, case)
        (operation,) = service.operations.values()
        written = case["serialized"]
        body, parts = written.get("body", ""), urlsplit(written["uri"])
        if protocol == "query":
            query = read_query(parse_qsl(body, keep_blank_values=True))
            assert query.action == operation.name, case["id"]
            found = query_input(service, operation, query)
        else:
            named = rest_operation(service, written["method"], parts.path.encode())
            assert named is not None, case["id"]
            pairs = query_pairs(parts.query.encode())
            found = rest_input(service, *named, pairs, body.encode())
        assert plain(found) == plain(case.get("params", {})), case["id"]
    assert (counts[True], counts[False]) == (run, left_out)


@pytest.mark.parametrize(
    ("protocol", "run", "left_out"), [("query", 12, 26), ("rest-json", 14, 77)]
)
def test_what_is_answered_is_what_clients_read(protocol: str, run: int, left_out: int) -> None:
    counts = {True: 0, False: 0}
    parser = botocore.parsers.create_parser(protocol)
    for suite, case in suites("output", protocol):
        fits = is_of_ses(suite, case) and "error" not in case and "output" in case["given"]
        counts[fits] += 1
        if not fits:
            continue
        service = service_of(suite, case)
        (operation,) = service.operations.values()
        values = typed(service, operation.output, case["result"])
        if protocol == "query":
            octets = query_output(service, operation, values, "an id").encode()
        else:
            octets = rest_output(service, operation, values)
        resolver = botocore.model.ShapeResolver(suite["shapes"])
        model = suite["shapes"][operation.output]
        if operation.wrapper:
            model = {**model, "resultWrapper": operation.wrapper}
        shape = botocore.model.StructureShape(operation.output, model, resolver)
        answer = {"status_code": 200, "headers": {}, "body": octets}
        found = parser.parse(answer, shape)
        found.pop("ResponseMetadata", None)
        assert plain(found) == plain(values), case["id"]
    assert (counts[True], counts[False]) == (run, left_out)
