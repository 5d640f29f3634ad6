"""Two ways to say no: the subject cannot be studied at all, or one probe cannot say anything about it."""

from __future__ import annotations

from theorylens.results import Message


class RefusedError(ValueError):
    """The subject cannot be loaded or is not fit to be audited. One sentence: what was given, is needed, to do."""


class UnsuitableError(Exception):
    """Raised inside a probe that has nothing to say about this subject; the audit records it as skipped."""

    def __init__(self, reason: Message) -> None:
        super().__init__(reason.render())
        self.reason = reason
