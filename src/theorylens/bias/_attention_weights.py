"""Where attention weights come from: caught on the way through any transformer, whoever wrote its attention.

Method   `nn.MultiheadAttention` is asked for its weights per head; `scaled_dot_product_attention` is computed a second
         time from its queries and keys; a softmax over the last of four axes (batch, heads, queries, keys) is taken
Assumes  evaluation mode (no dropout on the weights)
Breaks   at attention kernels that never name their weights (flash attention called directly, flex attention)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

AFTER_VALUE = ("key_padding_mask", "need_weights", "attn_mask", "average_attn_weights", "is_causal")


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """Weights of one attention layer: shape (n, heads, queries, keys), every row summing to 1."""

    name: str
    weights: Float[Tensor, "n heads q k"]


def attention_weights(model: nn.Module, run: Callable[[], Any]) -> tuple[AttentionWeights, ...]:
    """The attention weights of ``model`` while ``run`` calls it, in order of use; empty without attention.

    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    >>> (found,) = attention_weights(layer, lambda: layer(torch.zeros(3, 5, 8)))
    >>> found.name, tuple(found.weights.shape)
    ('self_attn', (3, 2, 5, 5))
    """
    found: list[AttentionWeights] = []
    names: list[str] = []
    with torch.no_grad(), _hooked(model, found, names), _slow_path(), _Watching(found, names):
        run()
    return tuple(found)


@contextlib.contextmanager
def _slow_path() -> Iterator[None]:
    """The fused encoder kernel computes no weights; the caller's choice comes back afterwards."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _hooked(model: nn.Module, found: list[AttentionWeights], names: list[str]) -> Iterator[None]:
    handles = []

    def enter(name: str, module: nn.Module) -> Callable[..., Any]:
        def ask(m: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            names.append(name)
            kwargs = {**dict(zip(AFTER_VALUE, args[3:], strict=False)), **kwargs}
            asked.append((bool(kwargs.get("need_weights", True)), bool(kwargs.get("average_attn_weights", True))))
            return args[:3], {**kwargs, "need_weights": True, "average_attn_weights": False}

        def pass_by(m: nn.Module, args: Any) -> None:
            names.append(name)

        return ask if isinstance(module, nn.MultiheadAttention) else pass_by

    def keep(m: nn.Module, args: Any, output: Any) -> Any:
        name, (needed, averaged) = names.pop(), asked.pop()
        values, weights = output
        four = weights if weights.ndim == 4 else weights[None]  # without a batch axis
        found.append(AttentionWeights(name, four.detach().double()))
        return values, ((weights.mean(-3) if averaged else weights) if needed else None)

    def leave(m: nn.Module, args: Any, output: Any) -> None:
        names.pop()

    asked: list[tuple[bool, bool]] = []
    for name, module in model.named_modules():
        attends = isinstance(module, nn.MultiheadAttention)
        handles.append(module.register_forward_pre_hook(enter(name, module), with_kwargs=attends))
        handles.append(module.register_forward_hook(keep if attends else leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Watching(TorchFunctionMode):
    """Notes attention that is computed outside `nn.MultiheadAttention`."""

    def __init__(self, found: list[AttentionWeights], names: list[str]) -> None:
        super().__init__()
        self.found, self.names = found, names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        weights: Tensor | None = None
        if name == "scaled_dot_product_attention":
            weights = _from_queries(*args, **kwargs)
        elif name == "softmax" and output.ndim == 4:
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            weights = output if axis in (-1, 3) else None
        if weights is not None:
            four = weights if weights.ndim == 4 else weights.reshape(-1, 1, *weights.shape[-2:])
            self.found.append(AttentionWeights(self.names[-1] if self.names else "", four.detach().double()))
        return output


def _from_queries(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """softmax(QK'/√d + mask), as torch documents `scaled_dot_product_attention`."""
    del value, dropout_p
    if enable_gqa:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
    scores = (
        query.double() @ key.double().transpose(-2, -1) * (1 / math.sqrt(query.size(-1)) if scale is None else scale)
    )
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if attn_mask is not None:
        masked = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -math.inf) if masked else scores + attn_mask.double()
    return torch.softmax(scores, -1)
