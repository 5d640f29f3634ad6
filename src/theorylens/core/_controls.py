"""The same number where there is nothing to find: before training, and after training on shuffled labels."""

from __future__ import annotations

from collections.abc import Callable

from theorylens.results import Control, Estimate, Message

from ._subject import Subject


def controls(subject: Subject, compute: Callable[[Subject], Estimate]) -> tuple[Control, ...]:
    """``compute`` on the initial network and, when the subject has one, on the network trained on shuffled labels.

    ``compute`` must draw its random numbers the same way for each, so that only the network differs.
    """
    found: list[Control] = []
    if subject.model is None:
        return ()  # nothing to re-initialise
    if (start := subject.initial()) is not None:
        with start.subject.studied():
            found.append(Control(role="init", name=start.name, estimate=compute(start.subject)))
    if subject.shuffled is not None:
        name = Message("control.shuffled", "trained on shuffled labels")
        with subject.shuffled.studied():
            found.append(Control(role="shuffled", name=name, estimate=compute(subject.shuffled)))
    return tuple(found)
