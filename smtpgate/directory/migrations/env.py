"""Alembic runs this to apply revisions, on the connection that it is given."""

from alembic import context

from smtpgate.directory.schema import metadata

__all__ = ()

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
