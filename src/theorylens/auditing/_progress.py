"""What a person sees while they wait: two lines on a terminal, one line a probe elsewhere. Always on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Told what begins and what ends."""

    def say(self, text: str) -> None: ...
    def begin(self, label: str, seconds: float) -> None: ...
    def end(self, label: str, spent: float, how: str) -> None: ...


@runtime_checkable
class Stream(Protocol):
    """What lines are written to, such as ``sys.stderr``."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None:
        del text

    def begin(self, label: str, seconds: float) -> None:
        del label, seconds

    def end(self, label: str, spent: float, how: str) -> None:
        del label, spent, how


class Lines:
    """One line for each probe that ended: for logs."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def say(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()

    def begin(self, label: str, seconds: float) -> None:
        del label, seconds

    def end(self, label: str, spent: float, how: str) -> None:
        self.say(f"{label}  {how}  {spent:.1f} s")


class Bar:
    """A rich bar over the planned seconds, corrected as probes finish."""

    def __init__(self, total: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description:<44}"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
        )
        self.bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("", total=max(total, 1e-9), left="")
        self.planned, self.spent, self.done, self.now = total, 0.0, 0.0, 0.0

    def say(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False)

    def begin(self, label: str, seconds: float) -> None:
        self.now = seconds
        drift = self.spent / self.done if self.done > 0 else 1.0
        left = f"about {max(self.planned - self.done, 0) * drift:.0f} s left"
        self.bar.update(self.task, description=label, left=left)

    def end(self, label: str, spent: float, how: str) -> None:
        del label, how
        self.spent, self.done = self.spent + spent, self.done + self.now
        self.bar.update(self.task, completed=min(self.done, self.planned))


@contextmanager
def progress(show: bool | None, total: float) -> Iterator[Progress]:
    """The progress for this place: ``show`` None decides by whether stderr is a terminal."""
    if show is False or (show is None and not sys.stderr.isatty()):
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines(sys.stderr)
    else:
        shown = Bar(total)
        with shown.bar:
            yield shown
