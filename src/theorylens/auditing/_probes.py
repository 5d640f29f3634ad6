"""Which probes there are, and which of them a person meant."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from theorylens import bias, dynamics, frontier, generalization, kernels, landscape, representation
from theorylens.core import Probe

HEADLINE_CODE = "TL101"
CHAPTERS = ("generalization", "landscape", "kernels", "representation", "bias", "dynamics", "frontier")
PROBES: tuple[Probe, ...] = (
    *generalization.PROBES,
    *landscape.PROBES,
    *kernels.PROBES,
    *representation.PROBES,
    *bias.PROBES,
    *dynamics.PROBES,
    *frontier.PROBES,
)

Patterns = str | Iterable[str] | None


def select(probes: Sequence[Probe], only: Patterns = None, skip: Patterns = None) -> list[Probe]:
    """Probes whose code, name or chapter matches a pattern of ``only`` and none of ``skip``.

    The headline certificate stays in unless ``skip`` names it.

    Raises
    ------
    ValueError
        When a pattern matches nothing; the nearest known word is offered.
    """
    wanted, unwanted = _patterns(only), _patterns(skip)
    for pattern in (*wanted, *unwanted):
        if not any(_matches(p, pattern) for p in probes):
            known = [w for p in probes for w in (p.code, p.name, p.chapter)]
            near = difflib.get_close_matches(pattern, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{pattern!r} matches no probe, name or chapter{hint}")
    chosen = []
    for p in probes:
        named = not wanted or p.code == HEADLINE_CODE or any(_matches(p, w) for w in wanted)
        if named and not any(_matches(p, u) for u in unwanted):
            chosen.append(p)
    return chosen


def _patterns(given: Patterns) -> tuple[str, ...]:
    if given is None:
        return ()
    words = given.split(",") if isinstance(given, str) else given
    return tuple(w.strip() for w in words if w.strip())


def _matches(p: Probe, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(word, pattern) for word in (p.code, p.name, p.chapter))
