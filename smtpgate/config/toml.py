"""TOML files read into models. Each problem names file and key, and the nearest known key.

All problems of a file are reported at once. A model checks how its keys go together in
:meth:`Table.contradictions`, so that each of these problems has its own key too. Where some
keys cannot be read, the others are checked all the same (``sound_keys``).
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from smtpgate.config.sound_keys import (
    Check,
    CheckedTable,
    Location,
    Problem,
    location_of,
    problems_of_sound_keys,
)
from smtpgate.core.policy.problem import hint, shown
from smtpgate.core.secret import Secret

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_TUPLE: Final = re.compile(r"\('[^']*'(?:, '[^']*')*,?\)")
_ITEM: Final = re.compile(r"'([^']*)'")
_READABLE_BY_OTHERS: Final = 0o004


class FileProblemsError(ValueError):
    """The problems of files that people write, one a line."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class FileReading:
    """The reading of a file: the folder of its relative paths, and if paths must exist."""

    folder: Path
    require_files: bool = True
    warnings: list[str] = field(default_factory=list)
    look: Callable[[CheckedTable], None] | None = None  # instead of the tables' own checks


class Table(BaseModel):
    """A table of a TOML file: frozen, strict, and without unknown keys.

    ``written_as`` maps a field to its key in the file, where the names differ; to ``None``
    where the file has no such key.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        # A section's validator is a part of the whole configuration's, and needs no own one.
        defer_build=True,
    )

    written_as: ClassVar[Mapping[str, str | None]] = {}

    @classmethod
    def known_keys(cls) -> tuple[str, ...]:
        """The keys that may stand in the file."""
        fields = cls.model_fields.items()
        keys = (cls.written_as.get(name, found.alias or name) for name, found in fields)
        return tuple(key for key in keys if key is not None)

    def contradictions(self) -> Iterator[Problem]:
        """The keys that do not go together with others, each with its problem."""
        return iter(())

    def checks(self) -> Sequence[Check]:
        """The checks for contradictions: one that needs a key which is absent ends alone."""
        return (self.contradictions,)

    @model_validator(mode="after")
    def _has_no_contradictions(self, info: ValidationInfo) -> Self:
        if isinstance(info.context, FileReading) and info.context.look is not None:
            info.context.look(self)
            return self
        if found := tuple(self.contradictions()):
            raise problems(found)
        return self


def problems(found: Sequence[Problem]) -> PydanticCustomError:
    """The error with several problems, for a validator to raise."""
    return PydanticCustomError("problems", "see the context", {"problems": tuple(found)})


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def as_path(value: object, info: ValidationInfo) -> object:
    """A path in the file as one that can be opened; a value that is not a string is kept."""
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("must be the path of a file or folder")
    return info.context.folder / value if isinstance(info.context, FileReading) else Path(value)


def _must_exist(is_there: Callable[[Path], bool], what: str, cure: str = "") -> BeforeValidator:
    def check(value: object, info: ValidationInfo) -> object:
        path, reading = as_path(value, info), info.context
        if (
            isinstance(path, Path)
            and isinstance(reading, FileReading)
            and reading.require_files
        ):
            if not path.exists():
                raise ValueError(f"there is no {path}{cure}")
            if not is_there(path):
                raise ValueError(f"{path} is not a {what}")
        return path

    return BeforeValidator(check)


def _private(path: object, info: ValidationInfo) -> object:
    reading = info.context
    if isinstance(path, Path) and isinstance(reading, FileReading) and path.exists():
        read_private(path, reading.warnings)
    return path


Array = Annotated[tuple[T, ...], BeforeValidator(_as_tuple)]
MadeFile = Annotated[Path, _must_exist(Path.is_file, "file", "; `smtpgate init' makes it")]
PrivateFile = Annotated[MadeFile, AfterValidator(_private)]
ExistingFile = Annotated[Path, _must_exist(Path.is_file, "file")]
ExistingPrivateFile = Annotated[ExistingFile, AfterValidator(_private)]
FileOrFolder = Annotated[Path, _must_exist(Path.exists, "file or folder")]
OwnPath = Annotated[Path, BeforeValidator(as_path)]


def reason(error: OSError) -> str:
    """The system's words for an error, in lower case."""
    words = error.strerror or type(error).__name__
    return words[:1].lower() + words[1:]


class FileNotReadableError(ValueError):
    """A file that cannot be read."""


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises FileNotReadableError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileNotReadableError(f"{path} cannot be read: {reason(error)}") from None


def read_private(path: Path, warnings: list[str]) -> bytes:
    """A private file's content; warns when every user can read it.

    Raises FileNotReadableError.
    """
    content = read_bytes(path)
    if path.stat().st_mode & _READABLE_BY_OTHERS:
        warnings.append(f"{path} can be read by every user of this machine (chmod 600 it)")
    return content


def read_secret(path: Path, warnings: list[str]) -> Secret:
    """The one line of a secret file. Raises ValueError."""
    text = _secret_text(path, warnings)
    if not text.isprintable():
        raise ValueError(f"{path} has more than one line, or a control character")
    return Secret(text)


def read_secrets(path: Path, warnings: list[str]) -> Secret:
    """The lines of a file with a secret and those that it replaces. Raises ValueError."""
    lines = _secret_text(path, warnings).splitlines()
    if not all(map(str.isprintable, lines)):
        raise ValueError(f"{path} has a control character")
    return Secret("\n".join(lines))


def _secret_text(path: Path, warnings: list[str]) -> str:
    try:
        text = read_private(path, warnings).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises FileProblemsError naming line and column."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise FileProblemsError([f"{path}: cannot be read: {reason(error)}"]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FileProblemsError([f"{path}: is not UTF-8 text (at line {line})"]) from None
    except tomllib.TOMLDecodeError as error:
        # tomllib shows the name of a table as a Python tuple.
        text = _TUPLE.sub(lambda found: f"[{'.'.join(_ITEM.findall(found[0]))}]", str(error))
        raise FileProblemsError(
            [f"{path}: is not TOML: {text[:1].lower()}{text[1:]}"]
        ) from None


def validate(model: type[M], data: Mapping[str, Any], file: Path, reading: FileReading) -> M:
    """The model of those tables. Raises FileProblemsError with every problem."""
    try:
        return model.model_validate(data, context=reading)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        found = [one for details in errors for one in _problems_of(details, model)]
        if not any(one["type"] == "problems" and not one["loc"] for one in errors):
            again = FileReading(reading.folder, reading.require_files)
            found += problems_of_sound_keys(
                model, data, errors, lambda look: replace(again, look=look)
            )
        lines = [f"{file}: {dotted_key(location, data)}: {text}" for location, text in found]
        raise FileProblemsError(dict.fromkeys(lines)) from None


def _problems_of(details: ErrorDetails, model: type[BaseModel]) -> Iterator[Problem]:
    location = location_of(details)
    table = _table_at(model, location[:-1])
    if details["type"] == "problems":
        for key, text in details["ctx"]["problems"]:
            yield (*_as_written(location, table), *key), text
    elif details["type"] == "extra_forbidden":
        known = table.known_keys() if table is not None else ()
        yield location, f"is not a known key{hint(str(location[-1]), known)}"
    else:
        yield _as_written(location, table), _wording(details)


def _as_written(location: Location, table: type[Table] | None) -> Location:
    field_name = str(location[-1]) if location else ""
    if table is None or field_name not in table.written_as:
        return location
    key = table.written_as[field_name]
    return location[:-1] if key is None else (*location[:-1], key)


def _wording(details: ErrorDetails) -> str:
    """The problem in words of TOML; pydantic's own are about Python's types."""
    kind, seen, facts = details["type"], details["input"], details.get("ctx", {})
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, not {_kind_of(seen)}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind]} {next(iter(facts.values())):.15g}, not {seen}"
    if kind == "literal_error":
        return _choice(re.findall(r"'([^']*)'", facts["expected"]), seen)
    if kind == "value_error":
        return str(facts["error"])
    text = _WORDS.get(kind, details["msg"])
    return text[:1].lower() + text[1:]


def _choice(known: Sequence[str], seen: object) -> str:
    text = shown(seen) if isinstance(seen, str) else _kind_of(seen)
    near = hint(seen, known) if isinstance(seen, str) else ""
    return f"must be {' or '.join(map(shown, known))}, not {text}{near}"


_WORDS: Final = {
    "missing": "is missing",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "finite_number": "must be a finite number",
}
_WANTED: Final = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "a table",
    "path_type": "a path",
    "is_instance_of": "a path",
    "string_type": "a string",
    "tuple_type": "an array",
}
_BOUNDS: Final = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}


def _kind_of(value: object) -> str:
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case list() | tuple():
            return "an array"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def dotted_key(location: Location, data: object = None) -> str:
    """The key as written in TOML. Models number tables that have a name in ``data``."""
    text = ""
    for part in location:
        if isinstance(part, int) and not isinstance(data, dict):
            data = data[part] if isinstance(data, list) and part < len(data) else None
            text += f"[{part}]"
            continue
        name = list(data)[part] if isinstance(part, int) and isinstance(data, dict) else part
        data = data.get(name) if isinstance(data, dict) else None
        is_bare = _BARE_KEY.fullmatch(str(name))
        text += f".{name}" if is_bare else f'."{shown(str(name))[1:-1]}"'
    return text.lstrip(".") or "the file"


def _table_at(model: type[BaseModel], location: Location) -> type[Table] | None:
    """The model of the table at that location."""
    at: Any = model
    for part in location:
        at = _without_none(at)
        if isinstance(at, type) and issubclass(at, BaseModel):
            fields = at.model_fields
            names = {found.alias or name: found.annotation for name, found in fields.items()}
            at = names.get(str(part))
        else:
            at = next((a for a in reversed(get_args(at)) if a is not Ellipsis), None)
    at = _without_none(at)
    return at if isinstance(at, type) and issubclass(at, Table) else None


def _without_none(annotation: Any) -> Any:  # noqa: ANN401 - types of any kind
    """The type of a value that may be missing."""
    kinds = [one for one in get_args(annotation) if one is not type(None)]
    is_optional = type(None) in get_args(annotation) and len(kinds) == 1
    return kinds[0] if is_optional else annotation
