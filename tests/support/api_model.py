"""Generates ``smtpgate/api/model.json``: the operations that the API serves, from botocore.

    .venv/bin/python -m tests.support.api_model

botocore has AWS's own descriptions of all operations (Apache License 2.0). What is served, with
the shapes that it needs and without documentation, is a hundredth of them.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import botocore
import botocore.loaders

from tests.support.gate import ROOT

MODEL: Final = ROOT / "smtpgate" / "api" / "model.json"
NOTICE: Final = (
    "Made from the service models of botocore, Copyright Amazon.com, Inc. or its affiliates, "
    "Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0); documentation and "
    "operations that are not served are left out."
)
SERVICES: Final = ROOT / "tests/cases/api/operations.toml"
# Routes of earlier models that clients still use.
_FORMER_ROUTES: Final[Mapping[str, tuple[str, str]]] = {
    "ListEmailIdentities": ("GET", "/v2/email/identities"),
    "ListConfigurationSets": ("GET", "/v2/email/configuration-sets"),
}
_KEPT_OF_SHAPES: Final = ("type", "required", "enum", "min", "max", "pattern")
# Java has \p{…} and others that Python has not.
_FOREIGN: Final = re.compile(r"\\[pPh]|\\u10000|\[\[|&&")


def made() -> str:
    """The text of the file."""
    loader = botocore.loaders.Loader()
    services: dict[str, list[str]] = tomllib.loads(SERVICES.read_text("utf-8"))
    services.pop("notes")  # for readers
    found = {name: _service(loader, name, served) for name, served in services.items()}
    document = {"notice": NOTICE, "botocore": botocore.__version__, "services": found}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n"


def _service(
    loader: botocore.loaders.Loader, name: str, served: Iterable[str]
) -> dict[str, Any]:
    model = loader.load_service_model(name, "service-2")
    operations = {one: operation_of(model["operations"][one]) for one in served}
    if name == "sesv2":
        for one, route in _FORMER_ROUTES.items():
            if list(route) not in operations[one]["routes"]:
                operations[one]["routes"].append(list(route))
    roots = [
        shape
        for one in operations.values()
        for shape in (one.get("input"), one.get("output"), *one.get("errors", ()))
        if shape
    ]
    metadata = model["metadata"]
    return {
        "protocol": metadata["protocol"],
        "version": metadata["apiVersion"],
        "namespace": metadata.get("xmlNamespace", ""),
        "operations": operations,
        "shapes": {
            shape: shape_of(model["shapes"][shape]) for shape in _reachable(model, roots)
        },
        # The others, for a clear refusal.
        "refused": sorted(set(model["operations"]) - set(operations)),
    }


def operation_of(given: dict[str, Any]) -> dict[str, Any]:
    """An operation of a service model, as the file has it."""
    found: dict[str, Any] = {"routes": [[given["http"]["method"], given["http"]["requestUri"]]]}
    for side in ("input", "output"):
        if side in given:
            found[side] = given[side]["shape"]
    if wrapper := given.get("output", {}).get("resultWrapper"):
        found["wrapper"] = wrapper
    if errors := [error["shape"] for error in given.get("errors", ())]:
        found["errors"] = errors
    return found


def _reachable(model: dict[str, Any], roots: Iterable[str]) -> list[str]:
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _parts(model["shapes"][name])
    return sorted(found)


def _parts(shape: dict[str, Any]) -> Iterator[str]:
    yield from (member["shape"] for member in shape.get("members", {}).values())
    yield from (shape[one]["shape"] for one in ("member", "key", "value") if one in shape)


def shape_of(given: dict[str, Any]) -> dict[str, Any]:
    """A shape of a service model, as the file has it."""
    found: dict[str, Any] = {key: given[key] for key in _KEPT_OF_SHAPES if key in given}
    if _FOREIGN.search(found.get("pattern", "")):
        del found["pattern"]
    if given["type"] == "structure":
        members = given.get("members", {})
        found["members"] = {name: _member(name, member) for name, member in members.items()}
    for part in ("member", "key", "value"):
        if part in given:
            found[part] = given[part]["shape"]
    if given.get("exception"):
        error = given.get("error", {})
        found["error"] = [error.get("code", ""), error.get("httpStatusCode", 0)]
    return found


def _member(name: str, given: dict[str, Any]) -> str | list[str]:
    if "location" in given:
        return [given["shape"], given["location"], given.get("locationName", name)]
    shape: str = given["shape"]
    return shape


if __name__ == "__main__":
    MODEL.write_text(made(), encoding="utf-8")
    sys.stderr.write(f"{MODEL.relative_to(ROOT)} was written\n")
