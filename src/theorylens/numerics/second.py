"""The setting in which second derivatives exist: kernels that can be differentiated twice, restored afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

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


class _Composed(TorchFunctionMode):
    """Weight normalisation from its parts: the second derivative of torch's fused one is wrong (torch 2.13)."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Attention by the math kernel, recurrent networks without cuDNN, weight normalisation composed of its parts.

    The fused attention kernels and cuDNN's recurrent ones have no second derivative, the fused weight normalisation has
    a wrong one. The caller's settings come back afterwards.
    """
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False), _Composed():
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
