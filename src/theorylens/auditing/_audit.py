"""Run probes over a subject and keep every outcome, good or bad."""

from __future__ import annotations

import inspect
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from theorylens.advice import recommend
from theorylens.core import NoFingerprintError, Probe, Subject, UnsuitableError, digest
from theorylens.numerics import NoSecondDerivativeError
from theorylens.report import Report
from theorylens.results import (
    Crashed,
    Done,
    Message,
    Outcome,
    Record,
    Requirement,
    RunFacts,
    Setting,
    Skipped,
    exit_code,
)

from ._facts import fingerprint, model_hash, source_hash, subject_facts, versions
from ._ledger import TestSetLedger
from ._plan import Plan, make_plan, measure_speed, parse_budget
from ._preflight import preflight
from ._probes import HEADLINE as HEADLINE_CODE
from ._probes import PROBES, Patterns, select
from ._progress import Progress, progress
from ._shuffled import affordable, replace_keeping, train_shuffled, with_shuffled
from ._store import Store

DELTA = 0.05


@dataclass(frozen=True, kw_only=True)
class Options:
    """What an audit may be told beyond the subject, the budget and the choice of probes.

    Attributes
    ----------
    delta
        Failure probability of each certificate.
    joint
        Share ``delta`` among all certificates, so that the smallest of them may be quoted.
    comparisons
        Models known to have been compared on the test split; the larger of this and the ledger's count is paid for.
    require
        Requirements such as ``"certificate <= 0.1"``.
    allow_crash
        Codes whose crash does not change the exit code.
    cache
        Folder for finished probes; None remembers nothing. ``fresh`` ignores what is there.
    plan
        A plan from an earlier run (code to rung), to repeat it elsewhere.
    ledger
        Count uses of test sets across runs.
    progress
        Show progress on stderr; None decides by whether it is a terminal.
    command
        The command line that led here, for the report.
    """

    delta: float = DELTA
    joint: bool = False
    comparisons: int = 1
    require: tuple[str, ...] = ()
    allow_crash: tuple[str, ...] = ()
    cache: Path | None = None
    fresh: bool = False
    plan: Mapping[str, Any] | None = None
    ledger: bool = True
    progress: bool | None = None
    command: str = ""
    probes: Sequence[Probe] = field(default=PROBES, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must lie strictly between 0 and 1, got {self.delta}")
        if self.comparisons < 1:
            raise ValueError(f"comparisons counts this model too, so it is at least 1, got {self.comparisons}")


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What stays the same while the probes run."""

    subject: Subject
    plan: Plan
    seed: int
    options: Mapping[str, Any]
    store: Store
    progress: Progress


def audit(
    subject: Subject,
    *,
    budget: str | float | None = None,
    only: Patterns = None,
    skip: Patterns = None,
    seed: int = 0,
    options: Options | None = None,
) -> Report:
    """Measure a network and write down everything that was found.

    Parameters
    ----------
    subject
        What to study.
    budget
        Time such as ``"60s"``; decides once, before anything runs, which probes run and with how many draws. None runs
        every probe at its highest number of draws.
    only, skip
        Codes, names or chapters; patterns such as ``"TL3*"`` work. The headline certificate is always in.
    seed
        Decides every random draw.
    options
        Everything else.

    Returns
    -------
    Report
        ``report.save("report.html")``, ``report["TL101"].estimate``, ``report.require("certificate <= 0.05")``.

    Raises
    ------
    RefusedError
        When the subject is not fit to be studied: one sentence says what to do.
    ValueError
        For an unknown probe, requirement or budget.
    """
    options = options or Options()
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    seconds = parse_budget(budget)
    probes = select(options.probes, only, skip)
    known = [w for p in options.probes for w in (p.code, p.name)]
    requirements = [Requirement.parse(text, known) for text in options.require]

    notes = preflight(subject)
    identity, mark = _identity(subject)
    notes = (*notes, *mark)
    comparisons = _comparisons(subject, options)
    certificates = [p for p in probes if "comparisons" in inspect.signature(p.run).parameters]
    share = options.delta / len(certificates) if options.joint and certificates else options.delta
    given = {"delta": share, "comparisons": comparisons}
    store = Store(_folder(options.cache, identity, subject, seed))
    subject, shuffled = _with_control(subject, store, seed, seconds, options)
    plan = _plan(subject, probes, seconds, store, options, time.perf_counter() - clock)
    plan = replace(plan, shuffled=shuffled)
    with progress(options.progress, plan.total) as shown:
        shown.say(_announce(plan, probes))
        run = _Run(subject=subject, plan=plan, seed=seed, options=given, store=store, progress=shown)
        outcomes = tuple(_attempt(p, run, options.fresh) for p in probes)

    facts = subject_facts(subject, notes, identity or "")
    headline = next((o.about.code for o in outcomes if o.about.code == HEADLINE_CODE and isinstance(o, Done)), None)
    checked = tuple(r.check(outcomes, headline) for r in requirements)
    rungs = dict(plan.rungs)
    settings: dict[str, Setting] = {**given, "joint": options.joint, "shuffled_control": shuffled, "budget": seconds}
    facts_of_run = RunFacts(
        started=started, seconds=time.perf_counter() - clock, budget=seconds, seed=seed,
        device=str(subject.device.type), threads=torch.get_num_threads(), versions=versions(), source=source_hash(),
        plan=rungs, settings=settings, command=options.command,
        hash=digest(identity or "", source_hash(), str(versions()), str(seed), str(rungs), str(given)),
    )  # fmt: skip
    record = Record(
        subject=facts, run=facts_of_run, outcomes=outcomes, headline=headline, requirements=checked,
        advice=recommend(outcomes, facts), exit_code=exit_code(outcomes, checked, allow_crash=options.allow_crash),
    )  # fmt: skip
    return Report(record)


def _identity(subject: Subject) -> tuple[str | None, tuple[Message, ...]]:
    try:
        return fingerprint(subject), ()
    except NoFingerprintError as error:
        text = "results are not remembered between runs, since the subject has no fingerprint: {why}"
        return None, (Message("audit.no_fingerprint", text, why=str(error)),)


def _comparisons(subject: Subject, options: Options) -> int:
    """Models judged on this test set, as far as anybody knows; on record before a bound is computed."""
    if not options.ledger or not subject.has("test"):
        return options.comparisons
    counted = TestSetLedger().record(subject.split("test").content, model_hash(subject), subject.name)
    return max(options.comparisons, counted)


def _folder(cache: Path | None, identity: str | None, subject: Subject, seed: int) -> Path | None:
    if cache is None or identity is None:
        return None
    dtype = str(next(subject.net.parameters()).dtype) if subject.model is not None else ""
    key = digest(
        identity, source_hash(), str(sorted(versions().items())), str(seed), dtype, subject.device.type,
        str(torch.get_num_threads()), str(subject.batch_size),
    )  # fmt: skip
    return cache / key[:24]


def _with_control(
    subject: Subject, store: Store, seed: int, budget: float | None, options: Options
) -> tuple[Subject, bool]:
    """The subject with its control on shuffled labels, trained or read back, when there is a recipe and time."""
    if subject.shuffled is not None:
        return subject, True
    wanted = bool(options.plan["shuffled"]) if options.plan is not None else affordable(subject, budget)
    if not wanted or subject.recipe is None:
        return subject, False
    path = None if store.folder is None else store.folder / "shuffled.safetensors"
    from safetensors.torch import load_file, save

    from ._store import write_whole

    if path is not None and path.exists() and not options.fresh:
        state = load_file(str(path))
    else:
        state = train_shuffled(subject, seed)
        if path is not None:
            write_whole(path, save({name: value.contiguous() for name, value in state.items()}))
    return with_shuffled(subject, state, seed), True


def _plan(
    subject: Subject, probes: Sequence[Probe], budget: float | None, store: Store, options: Options, spent: float
) -> Plan:  # fmt: skip
    """The plan given, or the one a killed run left, or a new one; on disk before the first probe starts."""
    if options.plan is not None:
        rungs = {p.code: int(options.plan["rungs"][p.code]) for p in probes if p.code in options.plan["rungs"]}
        return Plan(rungs=rungs, seconds=dict.fromkeys(rungs, 0.0))
    name = "plan-" + digest(str(budget), *(p.code for p in probes))[:12]
    if not options.fresh and (stored := store.read_json(name)) is not None:
        return Plan(rungs=stored["rungs"], seconds=stored["seconds"])
    left = None if budget is None else max(budget - spent, 0.1 * budget)
    plan = make_plan(subject, probes, left, measure_speed(subject))
    store.write_json(name, {"rungs": dict(plan.rungs), "seconds": dict(plan.seconds)})
    return plan


def _announce(plan: Plan, probes: Sequence[Probe]) -> str:
    text = f"{len(plan.rungs)} probes planned (about {plan.total:.0f} s)"
    left = {p.code: plan.seconds[p.code] for p in probes if p.code not in plan.rungs and p.code in plan.seconds}
    if left:
        worst = max(left, key=lambda code: left[code])
        text += f", {len(left)} do not fit (largest: {worst}, about {left[worst]:.0f} s); raise --budget for all"
    return text


def _attempt(p: Probe, run: _Run, fresh: bool) -> Outcome:
    if (reason := p.missing(run.subject)) is not None:
        return Skipped(about=p.about, reason=reason)
    if p.code not in run.plan.rungs:
        need = run.plan.seconds.get(p.code, 0.0)
        text = "does not fit into the budget: it needs about {seconds:.0f} s more; raise --budget"
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


def _measure(p: Probe, run: _Run, rung: int | None, given: Mapping[str, Any], start: float) -> Outcome:
    # Each probe starts from what preflight computed and no more, so that neither its answer nor its counted work depends
    # on the probes before it, or on which of them were read back.
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
