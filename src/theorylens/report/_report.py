"""What `theorylens.audit` returns: the record and every way to look at it."""

from __future__ import annotations

import difflib
import html as escaping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theorylens.locale import translator
from theorylens.results import Crashed, Done, Record, Requirement, Result, Skipped, Verdict

from ._files import write_text
from ._html import html
from ._json import json_text, read_json
from ._markdown import markdown
from ._terminal import terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMATS = {".html": "html", ".htm": "html", ".json": "json", ".md": "markdown"}


class RequirementNotMet(AssertionError):  # noqa: N818 - the name says what happened
    """Raised by `Report.require`; the message lists each requirement that is not met and why."""


class Report:
    """A finished audit.

    Parameters
    ----------
    record
        The audit as data.
    lang
        Language of everything that is shown: "en" or "zh".
    """

    def __init__(self, record: Record, lang: str = "en") -> None:
        translator(lang)  # an unknown language is refused here rather than when something is shown
        self.record = record
        self.lang = lang

    @classmethod
    def load(cls, path: str | Path, lang: str = "en") -> Report:
        """Read a report that was saved as JSON; needs neither the model nor torch."""
        return cls(read_json(path), lang)

    def __getitem__(self, code: str) -> Result:
        """The result of the probe ``code`` (or ``chapter.measure``).

        Raises
        ------
        KeyError
            When there is no result: with the reason if the probe was skipped or crashed, else with the nearest code.
        """
        outcome = next((o for o in self.record.outcomes if code in (o.about.code, o.about.name)), None)
        match outcome:
            case Done():
                return outcome.result
            case Skipped():
                raise KeyError(f"{code} was skipped: {outcome.reason.render()}")
            case Crashed():
                raise KeyError(f"{code} crashed: {outcome.error}")
        raise KeyError(
            f"no probe {code!r} in this report; {_nearest(code, [o.about.code for o in self.record.outcomes])}"
        )

    def save(self, path: str | Path, lang: str | None = None) -> Path:
        """Write HTML, JSON or Markdown, as the suffix of ``path`` says; the file is whole or absent.

        Raises
        ------
        ValueError
            When the suffix names no format.
        """
        kind = FORMATS.get(Path(path).suffix.lower())
        if kind is None:
            raise ValueError(f"cannot tell the format of {Path(path).name!r}; end it with {', '.join(FORMATS)}")
        if kind == "json":
            return write_text(path, json_text(self.record))
        return write_text(path, (html if kind == "html" else markdown)(self.record, lang or self.lang))

    def require(self, *requirements: str) -> None:
        """Demand things of the report, as in ``report.require("certificate <= 0.05")``.

        The unfavourable end of the interval is compared; what was skipped, crashed, inconclusive or not measured is
        not met.

        Raises
        ------
        RequirementNotMet
            When a requirement is not met.
        ValueError
            When a requirement cannot be read or names nothing that exists.
        """
        known = {name for o in self.record.outcomes for name in (o.about.code, o.about.name)}
        parsed = [Requirement.parse(text, known) for text in requirements]
        checked = [r.check(self.record.outcomes, self.record.headline) for r in parsed]
        unmet = [c for c in checked if not c.met]
        if unmet:
            listed = "\n".join(f"  {c.text}: {c.why.render()}" for c in unmet)
            raise RequirementNotMet(f"{len(unmet)} of {len(checked)} requirements not met\n{listed}")

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row per probe, indexed by code.

        Raises
        ------
        ImportError
            When pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as missing:
            raise ImportError("to_frame needs pandas; install it with: pip install 'theorylens[frame]'") from missing
        rows = []
        for outcome in self.record.outcomes:
            about = outcome.about
            row: dict[str, object] = {
                "code": about.code,
                "probe": about.name,
                "outcome": type(outcome).__name__.lower(),
            }
            if isinstance(outcome, Done):
                result = outcome.result
                level = getattr(result.estimate.uncertainty, "level", None)
                row |= {
                    "kind": result.kind.value, "verdict": result.verdict.value, "value": result.estimate.value,
                    "lower": result.estimate.lower, "upper": result.estimate.upper, "level": level,
                    "unit": result.estimate.unit, "reason": result.reason.render(translator(self.lang)),
                    "seconds": result.cost.seconds, **_p_values(result),
                }  # fmt: skip
            elif isinstance(outcome, Skipped):
                row["reason"] = outcome.reason.render(translator(self.lang))
            else:
                row |= {"reason": outcome.error, "seconds": outcome.seconds}
            rows.append(row)
        return pd.DataFrame(rows, columns=_COLUMNS).set_index("code")

    def plot(self, code: str, ax: Any = None, *, panel: int = 0) -> Any:
        """Draw a picture of the result ``code``, as the report does, on matplotlib axes; the axes are returned.

        Parameters
        ----------
        code
            The probe.
        ax
            Axes to draw on; without, a figure of its own (``ax.figure``).
        panel
            Which of the result's pictures, counted from 0.
        """
        from ._plots import figure, plot

        payloads = self[code].payload
        if not 0 <= panel < len(payloads):
            raise ValueError(f"{code} has {len(payloads)} pictures, asked for was number {panel} (counted from 0)")
        translate = translator(self.lang)
        if ax is None:
            return figure(payloads[panel], translate).axes[0]
        plot(payloads[panel], ax, translate)
        return ax

    def summary(self, lang: str | None = None) -> RenderableType:
        """The summary tables as a rich renderable: ``rich.print(report.summary())``."""
        return terminal(self.record, lang or self.lang)

    def __rich__(self) -> RenderableType:
        return self.summary()

    def _repr_html_(self) -> str:
        page = escaping.escape(html(self.record, self.lang))
        return f'<iframe srcdoc="{page}" style="width:100%;height:800px;border:0" title="theorylens"></iframe>'

    def __repr__(self) -> str:
        done = [o.result for o in self.record.outcomes if isinstance(o, Done)]
        fails = sum(r.verdict is Verdict.FAILS for r in done)
        others = len(self.record.outcomes) - len(done)
        return f"<Report {self.record.subject.name!r}: {len(done)} results, {fails} fail, {others} not measured>"


def _alike(a: str, b: str) -> int:
    """How many letters the two have in common at the start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _nearest(code: str, known: list[str]) -> str:
    """The code most like ``code``, of equals the one that begins alike; all of them when none is like it."""
    likeness = {k: (difflib.SequenceMatcher(None, code, k).ratio(), _alike(code, k)) for k in known}
    best = max(known, key=lambda k: likeness[k], default=None)
    if best is not None and likeness[best][0] >= 0.4:
        return f"did you mean {best!r}?"
    return f"measured were {', '.join(known) or 'none'}"


def _p_values(result: Result) -> dict[str, float | None]:
    """The test on which the verdict rests, or the most surprising one: alone, and among all tests of the run."""
    if not result.p_values:
        return {}
    first = min(result.p_values, key=lambda p: (not p.decides, p.decisive, p.p))
    return {"p": first.p, "p_adjusted": first.adjusted}


_COLUMNS = [
    "code", "probe", "outcome", "kind", "verdict", "value", "lower", "upper", "level", "unit", "p", "p_adjusted",
    "reason", "seconds",
]  # fmt: skip
