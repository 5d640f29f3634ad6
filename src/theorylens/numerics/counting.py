"""Counting of work: forwards, gradients and Hessian-vector products, in examples. A probe reads what it cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Tally:
    """Work done since the tally was opened; a gradient includes its forward, a product costs about 2.5 gradients."""

    forwards: int = 0
    gradients: int = 0
    hvps: int = 0


_open: ContextVar[tuple[Tally, ...]] = ContextVar("theorylens_tally", default=())


@contextmanager
def tally() -> Iterator[Tally]:
    """Count the work done inside; tallies nest, and an inner one counts for the outer ones too."""
    mine = Tally()
    token = _open.set((*_open.get(), mine))
    try:
        yield mine
    finally:
        _open.reset(token)


def count(*, forwards: int = 0, gradients: int = 0, hvps: int = 0) -> None:
    """Add to every open tally."""
    for each in _open.get():
        each.forwards += forwards
        each.gradients += gradients
        each.hvps += hvps
