"""A bar on the terminal while a network trains; silence everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int, done: int, shown: bool) -> Iterator[Callable[[int, float], None]]:
    """A function of (step, loss) that moves the bar; it does nothing unless ``shown`` and stderr is a terminal."""
    if not shown:
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _nothing
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("training", total=total, completed=done)
        yield lambda step, loss: bar.update(task, completed=step, description=f"training, loss {loss:.3g}")


def _nothing(step: int, loss: float) -> None:
    del step, loss
