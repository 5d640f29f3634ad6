"""Names of a package that are loaded when they are first used (PEP 562), so that importing the package costs nothing.

Such a package writes its imports once, under ``if TYPE_CHECKING``, where type checkers and editors read them. `load`
reads the same statements when the program runs: there is no second table that could say something else.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from functools import cache
from typing import Any


def load(package: str, name: str) -> Any:
    """The object that ``package`` exports as ``name``; it stays in the package, so it is looked up once.

    Raises
    ------
    AttributeError
        ``name`` is not in the package's ``__all__``, or not imported under its ``if TYPE_CHECKING``.
    """
    module = sys.modules[package]
    home = _homes(package).get(name) if name in module.__all__ else None
    if home is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    if home == package:  # from theorylens import core: a part of the package itself
        return importlib.import_module(f"{package}.{name}")
    value = getattr(importlib.import_module(home), name)
    setattr(module, name, value)
    return value


@cache
def _homes(package: str) -> dict[str, str]:
    """Which module each name is imported from, by the ``if TYPE_CHECKING`` of the package's own source."""
    found = {}
    for statement in ast.parse(inspect.getsource(sys.modules[package])).body:
        if not (isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"):
            continue
        for each in statement.body:
            if isinstance(each, ast.ImportFrom):
                home = f"{package}.{each.module}" if each.level else str(each.module)
                found.update({alias.name: home for alias in each.names})
    return found
