"""What an audit may be told beyond the subject, the budget and the choice of probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from theorylens.core import Probe

from ._probes import PROBES

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
