"""Whether two runs are the same run, as far as their code and settings tell."""

from __future__ import annotations

from typing import Any

from theorylens.core import NoFingerprintError, Task, hash_callable


def fingerprint(thing: Any) -> str:
    """Hash of code where there is some, else the name: enough to notice a changed run, not a proof of equality."""
    if isinstance(thing, Task):
        return "/".join(fingerprint(x) for x in (thing.forward, thing.loss, thing.error))
    if thing is None or isinstance(thing, str):
        return str(thing)
    try:
        return hash_callable(thing)
    except NoFingerprintError:
        return type(thing).__qualname__
