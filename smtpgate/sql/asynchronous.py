"""SQLAlchemy's asynchronous engine and connection, without its ORM.

``sqlalchemy.ext.asyncio`` imports the ORM for its sessions, which nothing here uses and which
took a seventh of a command's start. So its module ``engine`` is imported alone.
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING


def module_of_engine(package: str) -> ModuleType:
    """The module ``engine`` of a package, or the package where that is none by itself."""
    spec = find_spec(package)
    if spec is None or package in sys.modules:
        return import_module(package)
    # Only its place, in which the module and those beside it are found.
    sys.modules[package] = module_from_spec(spec)
    try:
        return import_module(f"{package}.engine")
    except ImportError:
        pass
    finally:
        # Others that import the package get the whole of it, with this same module in it.
        del sys.modules[package]
    return import_module(package)


if TYPE_CHECKING:
    import sqlalchemy.ext.asyncio as _found
else:
    _found = module_of_engine("sqlalchemy.ext.asyncio")

AsyncConnection = _found.AsyncConnection
AsyncEngine = _found.AsyncEngine
create_async_engine = _found.create_async_engine
