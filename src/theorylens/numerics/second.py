"""The setting in which second derivatives exist: kernels that can be differentiated twice, restored afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

_MISSING = (
    re.compile(r"derivative for ['\"]?(?P<op>[\w:.]+)['\"]? is not implemented", re.IGNORECASE),
    re.compile(r"the derivative of ['\"]?(?P<op>[\w:.]+)['\"]? is not implemented", re.IGNORECASE),
    re.compile(r"Trying to backward through (?P<op>\w+::[\w.]+)"),
    re.compile(r"(?P<op>torch\.compile) with aot_autograd does not currently support double backward"),
)


class NoSecondDerivativeError(RuntimeError):
    """An operator of the network can be differentiated once but not twice; ``operator`` names it."""

    def __init__(self, operator: str) -> None:
        super().__init__(
            f"the operator {operator} has no second derivative in torch, so curvature cannot be computed; "
            "replace it by an operation built from differentiable ones, or ask for gradient-only measures"
        )
        self.operator = operator


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Attention by the math kernel, recurrent networks without cuDNN; the caller's settings come back afterwards.

    The fused attention kernels and cuDNN's recurrent ones have no second derivative.
    """
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        try:
            yield
        except RuntimeError as error:
            if operator := missing_operator(error):
                raise NoSecondDerivativeError(operator) from error
            raise


def missing_operator(error: RuntimeError) -> str | None:
    """Which operator torch says it cannot differentiate, None when the error is about something else."""
    for pattern in _MISSING:
        if match := pattern.search(str(error)):
            return match["op"]
    return None
