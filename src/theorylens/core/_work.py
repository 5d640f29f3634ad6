"""What a probe will cost, said before it runs: counted in examples, so that a planner can turn it into seconds."""

from __future__ import annotations

from dataclasses import dataclass

RUNGS = (16, 32, 64, 128, 256, 512, 1024)
"""Numbers of draws a sampling probe may be asked for; each is a pure function of (seed, code, rung)."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Expected work: passes in examples, dense linear algebra in floating-point operations, the rest in seconds."""

    forwards: float = 0.0
    gradients: float = 0.0
    hvps: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            forwards=self.forwards + other.forwards, gradients=self.gradients + other.gradients,
            hvps=self.hvps + other.hvps, flops=self.flops + other.flops, seconds=self.seconds + other.seconds,
        )  # fmt: skip

    def __mul__(self, times: float) -> Work:
        return Work(
            forwards=self.forwards * times, gradients=self.gradients * times, hvps=self.hvps * times,
            flops=self.flops * times, seconds=self.seconds * times,
        )  # fmt: skip
