"""Part of the start of the program, done here once for all its processes.

The process that others are forked from imports this last (``tests/support/forks.py``). To
complete the models of configuration and documents, and to find the statements that make tables,
takes a gate as long as the rest of its start.
"""

import asyncio
import gc
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from smtpgate.directory.store import SCHEMA as DIRECTORY
from smtpgate.journal.store import SCHEMA as JOURNAL
from smtpgate.sql.database import sqlite_url
from tests.support.databases import make_tables, make_tables_once


def _models(of: type[BaseModel] = BaseModel) -> Iterator[type[BaseModel]]:
    for model in of.__subclasses__():
        if model.__module__.startswith("smtpgate."):
            yield model
        yield from _models(model)


async def _make_all_tables(folder: Path) -> None:
    for schema in (DIRECTORY, JOURNAL):
        await make_tables(sqlite_url(folder / f"{schema.owner}.sqlite"), schema)


def _prepare() -> None:
    for model in _models():
        model.model_rebuild()
    make_tables_once()
    with tempfile.TemporaryDirectory(prefix="smtpgate-") as folder:
        asyncio.run(_make_all_tables(Path(folder)))
    # Nothing is forked while a thread has a lock.
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    # What is here is no garbage, and to look through it copies it.
    gc.freeze()


_prepare()
