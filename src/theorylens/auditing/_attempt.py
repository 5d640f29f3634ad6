"""One probe, from the plan to an outcome: read back, skipped with a reason, measured, or crashed with a traceback."""

from __future__ import annotations

import inspect
import re
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from theorylens.core import Probe, Subject, UnsuitableError, digest
from theorylens.numerics import NoSecondDerivativeError
from theorylens.results import Crashed, Done, Message, Outcome, Skipped

from ._plan import Plan
from ._progress import Progress
from ._shuffled import replace_keeping
from ._store import Store


@dataclass(frozen=True, kw_only=True)
class Run:
    """What stays the same while the probes run."""

    subject: Subject
    plan: Plan
    seed: int
    options: Mapping[str, Any]
    store: Store
    progress: Progress


def attempt(p: Probe, run: Run, fresh: bool) -> Outcome:
    if (reason := p.missing(run.subject)) is not None:
        return Skipped(about=p.about, reason=reason)
    if p.code not in run.plan.rungs:
        need = run.plan.seconds.get(p.code, 0.0)
        text = "does not fit into the budget: it needs about {seconds:.0f} s; raise --budget"
        return Skipped(about=p.about, reason=Message("skip.budget", text, seconds=max(need, 1.0)))
    rung = run.plan.rungs[p.code] or None
    given = {k: v for k, v in run.options.items() if k in inspect.signature(p.run).parameters}
    name = f"{p.code}-" + digest(str(rung), str(sorted(given.items())), str(run.plan.shuffled))[:12]
    if not fresh and (found := run.store.read(name)) is not None:
        return found
    label = f"{p.code} {p.name}"
    run.progress.begin(label, run.plan.seconds.get(p.code, 0.0))
    start = time.perf_counter()
    outcome = _measure(p, run, rung, given, start)
    run.store.write(name, outcome)
    run.progress.end(label, time.perf_counter() - start, type(outcome).__name__.lower())
    return outcome


def _measure(p: Probe, run: Run, rung: int | None, given: Mapping[str, Any], start: float) -> Outcome:
    # Each probe starts from what preflight computed and no more, so that neither its answer nor its counted work
    # depends on the probes before it, or on which of them were read back.
    control = run.subject.shuffled
    subject = replace_keeping(run.subject, shuffled=None if control is None else replace_keeping(control))
    try:
        return Done(about=p.about, result=p(subject, seed=run.seed, rung=rung, **given))
    except UnsuitableError as error:
        return Skipped(about=p.about, reason=error.reason)
    except NoSecondDerivativeError as error:
        text = "the operator {operator} has no second derivative in torch; gradient-only probes still run"
        return Skipped(about=p.about, reason=Message("skip.second_derivative", text, operator=error.operator))
    except Exception as error:  # noqa: BLE001 - one crash must not lose an hour of results; it is kept and shown
        told = "".join(traceback.format_exception(error))
        return Crashed(
            about=p.about, error=f"{type(error).__name__}: {error}", traceback=_without_paths(told),
            seconds=time.perf_counter() - start,
        )  # fmt: skip


def _without_paths(text: str) -> str:
    """A traceback that names files from their package on, not where somebody keeps them."""
    short = re.sub(r'File "[^"]*?(?:site-packages|src)/', 'File "', text)
    return re.sub(r'File "/[^"]*/([^"/]+)"', r'File "\1"', short)
