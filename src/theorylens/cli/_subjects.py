"""From SUBJECT and its flags to a Subject."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ._exits import RefusedSubject
from ._options import flags

if TYPE_CHECKING:
    from theorylens.core import Subject

FILES = ("weights", "train", "validation", "test", "init", "checkpoints")


@dataclass(frozen=True, kw_only=True)
class SubjectFlags:
    """The options of `theorylens.cli._options.subject`, by the same names."""

    subject: str | None
    model: str | None
    weights: str | None
    train: str | None
    validation: str | None
    test: str | None
    loss: str | None
    init: str | None
    checkpoints: str | None
    device: str
    dtype: str | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> SubjectFlags:
        """From the values that click collected.

        Raises
        ------
        click.UsageError
            When it is not clear what is meant.
        """
        made = cls(**{name: given[name] for name in cls.__dataclass_fields__})
        if made.subject is not None and made.model is not None:
            raise click.UsageError(f"give either SUBJECT or --model; got {made.subject} and --model {made.model}")
        if not any((made.subject, made.model, made.train, made.validation, made.test)):
            raise click.UsageError(
                "which network? Give SUBJECT, such as subject.py:make ('theorylens init' writes one), "
                "or --model package.module:Net with --weights and data"
            )
        return made

    def words(self) -> list[str]:
        """These flags as they would be typed."""
        named = [(name, getattr(self, name)) for name in ("model", *FILES, "loss", "dtype")]
        device = [("device", self.device)] if self.device != "auto" else []
        return [*([self.subject] if self.subject else []), *flags([*named, *device])]

    def load(self) -> Subject:
        """Import or read the subject.

        Raises
        ------
        RefusedError, RefusedSubject
            When it cannot be loaded, or when the code that makes it raises; its traceback is then on stderr.
        """
        import torch

        from theorylens.core import RefusedError, load

        _check_device(self.device)
        target = self.subject or self.model
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        try:
            return load(
                target, loss=self.loss, device=self.device, dtype=dtype, **{name: getattr(self, name) for name in FILES}
            )
        except RefusedError:
            raise
        except Exception as error:  # the user's own code: anything may come out of it, and all of it is shown
            traceback.print_exc()
            what = f"{target or 'the data'} could not be loaded: {type(error).__name__}: {error}"
            raise RefusedSubject(f"{what}; the traceback above says where") from error


def _check_device(device: str) -> None:
    import torch

    if device == "auto":
        return
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise click.BadParameter(f"torch knows no device {device!r}.", param_hint="--device") from error
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise click.BadParameter("torch sees no CUDA device here; use --device cpu.", param_hint="--device")
