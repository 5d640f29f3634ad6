"""Exit codes, and the two ways to tell a person that something they gave will not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

NOT_MET, USAGE, CRASHED, REFUSED, NOTHING_MEASURED = 1, 2, 3, 4, 5
INTERRUPTED = 130
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
UNREAD = 141  # 128 + SIGPIPE: nobody reads stdout any more


class RefusedSubject(click.ClickException):
    """The subject cannot be loaded or is not fit to be audited; the message is one sentence."""

    exit_code = REFUSED


@contextmanager
def usage_errors(hint: str | None = None) -> Iterator[None]:
    """A ValueError raised while reading what a person typed is wrong usage; ``hint`` names the option."""
    try:
        yield
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=click.get_current_context(), param_hint=hint) from error


@contextmanager
def refusals() -> Iterator[None]:
    """A RefusedError of the core ends the command with its sentence; other errors pass."""
    from theorylens.core import RefusedError

    try:
        yield
    except RefusedError as error:
        raise RefusedSubject(str(error)) from error
