"""Run probes over a subject and keep every outcome, good or bad."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from theorylens.advice import recommend
from theorylens.core import NoFingerprintError, Probe, Subject, digest, judged_on_test
from theorylens.report import Report
from theorylens.results import Message, Record, Requirement, RunFacts, Setting, exit_code, one_family

from ._attempt import Run, attempt
from ._facts import fingerprint, source_hash, subject_facts, versions
from ._options import Options
from ._plan import Plan, make_plan, measure_speed, parse_budget
from ._preflight import preflight
from ._probes import HEADLINE_CODE, Patterns, select
from ._progress import progress
from ._shuffled import affordable, train_shuffled, with_shuffled
from ._store import Store, write_whole


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
        run = Run(subject=subject, plan=plan, seed=seed, options=given, store=store, progress=shown)
        outcomes = one_family(attempt(p, run, options.fresh) for p in probes)

    facts = subject_facts(subject, notes, identity or "")
    headline = next((o.about.code for o in outcomes if o.about.code == HEADLINE_CODE), None)  # chosen, measured or not
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
    return max(options.comparisons, judged_on_test(subject))


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
    wanted = _wants_control(subject, store, budget, options)
    if not wanted or subject.recipe is None:
        return subject, False
    path = None if store.folder is None else store.folder / "shuffled.safetensors"
    from safetensors.torch import load_file, save

    if path is not None and path.exists() and not options.fresh:
        state = load_file(str(path))
    else:
        state = train_shuffled(subject, seed)
        if path is not None:
            write_whole(path, save({name: value.contiguous() for name, value in state.items()}))
    return with_shuffled(subject, state, seed), True


def _wants_control(subject: Subject, store: Store, budget: float | None, options: Options) -> bool:
    """As the given plan says, or a killed run decided; a recipe's seconds come from a clock, so they decide once."""
    if options.plan is not None:
        return bool(options.plan["shuffled"])
    name = "control-" + digest(str(budget))[:12]
    if not options.fresh and (stored := store.read_json(name)) is not None:
        return bool(stored["shuffled"])
    wanted = affordable(subject, budget)
    store.write_json(name, {"shuffled": wanted})
    return wanted


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
