"""The key of an object of documents, and its fields as they are compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

# By the fields' names, which are those of the columns where there is one.
Fields: TypeAlias = Mapping[str, Any]


class ObjectKey(NamedTuple):
    """The key of an object: the columns of ``applied_objects`` that identify it."""

    kind: str
    account_id: str = ""
    region: str = ""
    subject: str = ""
    name: str = ""
