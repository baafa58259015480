"""Column types that mean the same on SQLite and PostgreSQL, and how constraints are called."""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, TypeDecorator
from sqlalchemy.types import TypeEngine

NAMES: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}
# A number that the database counts up.
Serial: Final = BigInteger().with_variant(Integer(), "sqlite")


class JsonOrJsonb(TypeDecorator[Any]):
    """JSON; in PostgreSQL JSONB, whose dialect takes 40 ms to import where there is none."""

    impl = JSON()  # type: ignore[mutable-override]  # as its manual has it
    cache_ok = True  # type: ignore[mutable-override]

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The type in that database."""
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import JSONB  # noqa: PLC0415

        return dialect.type_descriptor(JSONB())


Json: Final = JsonOrJsonb()


class Moment(TypeDecorator[datetime]):
    """A moment with its zone; kept in UTC, also by SQLite, which knows no zones."""

    impl = DateTime(timezone=True)  # type: ignore[mutable-override]  # as its manual has it
    cache_ok = True  # type: ignore[mutable-override]

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The value for the database."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401 - a driver's value
        """The value from the database."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
