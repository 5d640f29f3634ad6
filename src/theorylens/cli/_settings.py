"""Everything an audit was told on the command line, checked before anything is computed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._exits import usage_errors
from ._options import flags
from ._showing import remark

if TYPE_CHECKING:
    from theorylens.auditing import Options
    from theorylens.core import Probe

UNLIMITED = "unlimited"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of `theorylens.cli._options.audit`, by the same names."""

    budget: str
    only: str | None
    skip: str | None
    out: Path | None
    json: Path | None
    markdown: Path | None
    require: tuple[str, ...]
    allow_crash: tuple[str, ...]
    delta: float
    joint: bool
    comparisons: int
    seed: int
    plan: Path | None
    lang: str
    cache: Path
    fresh: bool
    no_progress: bool
    quiet: bool

    @property
    def time(self) -> str | None:
        """The budget as `theorylens.audit` takes it."""
        return None if self.budget == UNLIMITED else self.budget

    @property
    def files(self) -> tuple[Path, ...]:
        """What will be written; JSON first, from which everything else can be rendered again."""
        return tuple(path for path in (self.json, self.markdown, self.out) if path is not None)

    def options(self, start: list[str]) -> Options:
        """These settings for `theorylens.audit`; ``start`` is the command line up to the options.

        Raises
        ------
        click.BadParameter
            For an unknown probe, requirement, code or budget, or a plan that does not fit.
        """
        from theorylens.auditing import PROBES, Options, parse_budget, select
        from theorylens.results import Requirement

        with usage_errors("--budget"):
            parse_budget(self.time)
        with usage_errors("--only / --skip"):
            select(PROBES, self.only, self.skip)
        with usage_errors("--require"):
            for text in self.require:
                Requirement.parse(text, [word for p in PROBES for word in (p.code, p.name)])
        with usage_errors("--allow-crash"):
            for code in self.allow_crash:
                _known(code, PROBES)
        with usage_errors("--plan"):
            plan = None if self.plan is None else read_plan(self.plan, PROBES, self.seed)
        with usage_errors():
            return Options(
                delta=self.delta, joint=self.joint, comparisons=self.comparisons, require=self.require,
                allow_crash=self.allow_crash, cache=self.cache, fresh=self.fresh, plan=plan,
                progress=not (self.quiet or self.no_progress), command=self.command(start),
                probes=PROBES,
            )  # fmt: skip

    def command(self, start: list[str]) -> str:
        """The command line that repeats this run, without anybody's folders."""
        # Only what decides a number or the exit code; a settings file may have given some of it.
        given = {
            "budget": self.budget, "only": self.only, "skip": self.skip, "require": self.require,
            "allow-crash": self.allow_crash, "delta": self.delta, "joint": self.joint, "comparisons": self.comparisons,
            "seed": self.seed, "plan": self.plan,
        }  # fmt: skip
        usual = {"delta": 0.05, "comparisons": 1}
        words = [(name, value) for name, value in given.items() if value != usual.get(name)]
        return shlex.join(["theorylens", *map(_nameless, [*start, *flags(words)])])


def _nameless(word: str) -> str:
    """An absolute path by its last part: reports hold no machine's folders."""
    path, colon, name = word.partition(":")
    return Path(path).name + colon + name if Path(path).is_absolute() else word


def _known(code: str, probes: tuple[Probe, ...]) -> Probe:
    from theorylens.auditing import select

    found = [p for p in select(probes, code) if p.code == code]
    if not found:
        raise ValueError(f"{code!r} is no code of a probe; a code looks like {probes[0].code}")
    return found[0]


def read_plan(path: Path, probes: tuple[Probe, ...], seed: int) -> Mapping[str, Any]:
    """The plan in a report or plan file, as `Options` takes it: ``{"rungs": {code: draws}, "shuffled": bool}``.

    Raises
    ------
    ValueError
        When the file holds no plan, or names a probe or a number of draws that does not exist here.
    """
    try:
        view = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not JSON ({error}); give a report written with --json") from error
    run = view.get("run") if isinstance(view, dict) else None
    if isinstance(run, dict):
        rungs, shuffled = run.get("plan"), dict(run.get("settings") or {}).get("shuffled_control", False)
        if run.get("seed") != seed:
            remark(f"the plan was made with seed {run.get('seed')}, this run uses {seed}; its draws need its seed")
    else:
        rungs, shuffled = (view.get("rungs"), view.get("shuffled", False)) if isinstance(view, dict) else (None, False)
    if not isinstance(rungs, dict) or not isinstance(shuffled, bool):
        raise ValueError(f"{path.name} holds no plan; give a report written with --json")
    for code, rung in rungs.items():
        p = _known(code, probes)
        allowed = p.rungs or (0,)
        if rung not in allowed:
            raise ValueError(f"{path.name} plans {code} at {rung!r} draws; it has {', '.join(map(str, allowed))}")
    return {"rungs": rungs, "shuffled": shuffled}


def settings(given: Mapping[str, Any]) -> Settings:
    """Settings from the values that click collected.

    Raises
    ------
    click.UsageError
        When nothing would come of the run.
    """
    made = Settings(**{name: given[name] for name in Settings.__dataclass_fields__})
    if made.quiet and not (made.files or made.require):
        raise click.UsageError("--quiet without --out, --json, --markdown or --require would show nothing")
    return made
