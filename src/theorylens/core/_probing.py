"""A probe is a function ``Subject -> Result`` that says what it asks, what it needs and what it costs."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from theorylens.numerics.counting import tally
from theorylens.results import About, Cost, Message, Result

from ._errors import UnsuitableError
from ._randomness import rng_for
from ._subject import Subject
from ._work import RUNGS, Work

_CODE = re.compile(r"TL[1-9]\d\d")
_CHAPTERS = ("generalization", "representation", "landscape", "kernels", "bias", "dynamics", "frontier")


class Need(Enum):
    """What a probe may ask of a subject; each name is a field of `Subject`, present when it is not None."""

    MODEL = "model"
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    CHECKPOINTS = "checkpoints"
    HISTORY = "history"
    RECIPE = "recipe"
    OTHERS = "others"


@dataclass(frozen=True, eq=False)
class Probe:
    """A measured question. Made by `probe`; call it on a subject.

    Attributes
    ----------
    code, name, question
        ``"TL301"``, ``"landscape.eigenvalues"``, the first line of the docstring.
    needs, cost, rungs
        Fields the subject must have; expected work; numbers of draws it may run at (empty: nothing is sampled).
    """

    run: Callable[..., Result]
    code: str
    name: str
    question: str
    needs: frozenset[Need]
    cost: Callable[[Subject, int | None], Work]
    rungs: tuple[int, ...]

    @property
    def chapter(self) -> str:
        return self.name.split(".", 1)[0]

    @property
    def about(self) -> About:
        return About(code=self.code, name=self.name, question=self.question)

    def missing(self, subject: Subject) -> Message | None:
        """Why the probe cannot run on ``subject``, None when it can."""
        lacking = sorted(need.value for need in self.needs if not subject.has(need.value))
        if not lacking:
            return None
        text = "needs {fields}, which the subject does not have; give {fields} to Subject"
        return Message("skip.missing", text, fields=", ".join(lacking))

    def __call__(self, subject: Subject, *, seed: int = 0, rung: int | None = None, **options: Any) -> Result:
        """Measure. The model and the global random state are as before afterwards, also after an error.

        Raises
        ------
        UnsuitableError
            When the subject lacks something, or the question makes no sense for it.
        """
        if (reason := self.missing(subject)) is not None:
            raise UnsuitableError(reason)
        rung = self._rung(rung)
        known = inspect.signature(self.run).parameters
        if unknown := set(options) - set(known):
            raise TypeError(
                f"{self.code} has no options {sorted(unknown)}; it has {sorted(set(known) - {'subject', 'rng'})}"
            )
        if rung is not None:
            options["draws"] = rung
        start = time.perf_counter()
        with tally() as work, subject.studied():
            result = self.run(subject, rng=rng_for(seed, self.code, rung), **options)
        cost = Cost(
            seconds=time.perf_counter() - start, forwards=work.forwards, gradients=work.gradients, hvps=work.hvps
        )  # fmt: skip
        return replace(result, code=self.code, cost=cost, seed=seed, plan=rung)

    def _rung(self, rung: int | None) -> int | None:
        if not self.rungs:
            if rung is not None:
                raise ValueError(f"{self.code} samples nothing, so it has no rungs; got rung {rung}")
            return None
        if rung is None:
            return self.rungs[0]
        if rung not in self.rungs:
            raise ValueError(f"{self.code} runs at {list(self.rungs)} draws, got {rung}")
        return rung


def probe(
    *,
    code: str,
    needs: set[Need],
    cost: Callable[[Subject, int | None], Work],
    rungs: tuple[int, ...] = (),
    name: str | None = None,
) -> Callable[[Callable[..., Result]], Probe]:
    """Make a probe of a function ``(subject, *, rng, ...) -> Result``.

    Parameters
    ----------
    code
        Stable code, ``TL`` and three digits, never re-used.
    needs
        Fields of the subject that must be present.
    cost
        ``cost(subject, rung) -> Work``, controls counted.
    rungs
        For sampling probes: numbers of draws; the function then takes ``draws``.
    name
        ``"chapter.measure"``; by default the function's name without ``probe_`` after its package.

    Raises
    ------
    TypeError
        When the code or the first docstring line, which must be the question, is not as it should be.
    """

    def wrap(run: Callable[..., Result]) -> Probe:
        question = (run.__doc__ or "").strip().split("\n")[0]
        if not question.endswith("?"):
            raise TypeError(
                f"{run.__name__}: the first docstring line must be the question it answers, got {question!r}"
            )
        if not _CODE.fullmatch(code):
            raise TypeError(f"{run.__name__}: a code is TL and three digits, got {code!r}")
        if not set(rungs) <= set(RUNGS):
            raise TypeError(f"{run.__name__}: rungs must be taken from {RUNGS}, got {rungs}")
        packages = [p for p in run.__module__.split(".") if p in _CHAPTERS]
        chapter = packages[-1] if packages else run.__module__.split(".")[0]
        full = name or f"{chapter}.{run.__name__.removeprefix('probe_')}"
        return Probe(run, code, full, question, frozenset(needs), cost, tuple(rungs))

    return wrap
