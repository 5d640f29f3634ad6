"""Two routes timed in turn, so that a slow minute of the machine hits both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

RUNS = 7


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One line of the table: ours against a reference, and the ratio that was to be reached."""

    name: str
    ours: float
    reference: float
    route: str
    limit: float

    @property
    def ratio(self) -> float:
        return self.ours / self.reference

    def __str__(self) -> str:
        word = "reached" if self.ratio <= self.limit else "missed"
        return (
            f"{self.name:<52} {self.ours * 1e3:9.1f} ms  / {self.route:<34} {self.reference * 1e3:9.1f} ms"
            f"  = {self.ratio:6.3f}  (mark {self.limit:g}: {word})"
        )


def compare(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    route: str,
    limit: float,
    runs: int = RUNS,
) -> Mark:
    """Process CPU seconds of both, medians of interleaved runs after one warm-up each."""
    ours(), reference()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for spent, run in zip(times, (ours, reference), strict=True):
            start = time.process_time()
            run()
            spent.append(time.process_time() - start)
    a, b = (statistics.median(t) for t in times)
    return Mark(name=name, ours=a, reference=b, route=route, limit=limit)
