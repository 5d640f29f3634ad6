"""From SUBJECT and its flags to a Subject."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._options import flags

if TYPE_CHECKING:
    from theorylens.core import Subject


@dataclass(frozen=True, kw_only=True)
class SubjectFlags:
    """The options of `theorylens.cli._options.subject`, by the same names."""

    subject: str | None
    model: str | None
    weights: Path | None
    train: Path | None
    validation: Path | None
    test: Path | None
    loss: str | None
    device: str
    dtype: str | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> SubjectFlags:
        """From the values that click collected.

        Raises
        ------
        click.UsageError
            When it is not clear which network is meant.
        """
        made = cls(**{name: given[name] for name in cls.__dataclass_fields__})
        if made.subject is None and made.model is None:
            raise click.UsageError(
                "which network? Give SUBJECT, such as subject.py:make (theorylens init writes one), "
                "or --model package.module:Net with --weights and data"
            )
        if made.subject is not None and made.model is not None:
            raise click.UsageError(f"give either SUBJECT or --model; got {made.subject!r} and --model {made.model}")
        return made

    def words(self) -> list[str]:
        """These flags as they would be typed."""
        named = [(n, getattr(self, n)) for n in ("model", "weights", "train", "validation", "test", "loss", "dtype")]
        device = [("device", self.device)] if self.device != "auto" else []
        return [*([self.subject] if self.subject else []), *flags([*named, *device])]

    def load(self) -> Subject:
        """Import or read the subject; the current folder is searched for modules first, as by ``python -m``.

        Raises
        ------
        RefusedError
            When it cannot be loaded.
        """
        from theorylens.core import load

        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
        loaded: Subject = load(
            self.subject or self.model or "", weights=self.weights, train=self.train, validation=self.validation,
            test=self.test, loss=self.loss, device=self.device, dtype=self.dtype,
        )  # fmt: skip
        return loaded
