"""The Jacobian of a block of examples in the form the Gram products take: by layers where known, else by example."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from theorylens.core import RefusedError
from theorylens.numerics import Batch, count, part, rows
from theorylens.numerics.layer_calls import Call, HiddenLayerError, Plan, plan, recorded
from theorylens.numerics.layers import gradient, is_product, patches, returns

from ._gram import Dense, Factor, Outer, Output, factors_are_cheaper

Forward = Callable[[nn.Module, Batch], Tensor]


class PathsVaryError(Exception):
    """Examples do not all use the same layers with the same sizes: only per-example gradients are safe."""


@dataclass(frozen=True, eq=False)
class Linearisation:
    """Jacobians of one model with respect to chosen parameters.

    Attributes
    ----------
    forward
        ``forward(model, batch) -> outputs`` of shape (n, outputs).
    by_layers
        Use the closed forms; False leaves every parameter to per-example gradients.
    pairs
        Numbers of rows and columns of the kernel: the cheaper form of a layer depends on them.
    """

    model: nn.Module
    forward: Forward
    parameters: dict[str, nn.Parameter]
    output: Output
    pairs: tuple[int, int]
    by_layers: bool = True

    def run(self, batch: Batch) -> tuple[Tensor, list[Call]]:
        """Outputs with their graph, and the calls of known layers."""
        with torch.enable_grad(), recorded(self.model) as calls:
            outputs = self.forward(self.model, batch)
        n = rows(batch)
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != n:
            shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise RefusedError(
                f"the tangent kernel needs outputs of shape ({n}, outputs) for {n} examples, the model returned "
                f"{shape}; give forward= with a function (model, x) that returns such a tensor"
            )
        if not bool(torch.isfinite(outputs).all()):
            raise RefusedError(
                "the model's outputs are not finite; look for NaN in the inputs or overflow in the network"
            )
        if not outputs.requires_grad:
            raise RefusedError("the outputs do not depend on any trainable parameter in a differentiable way")
        return outputs, calls

    def planned(self, batch: Batch) -> tuple[Tensor, list[Call], Plan]:
        """Outputs, calls, and how each parameter is to be differentiated."""
        outputs, calls = self.run(batch)
        if not self.by_layers:
            return outputs, calls, Plan({}, dict(self.parameters), ())
        try:
            return outputs, calls, plan(calls, outputs, self.parameters, rows(batch))
        except HiddenLayerError as error:
            raise RefusedError(str(error)) from error

    def cotangents(self, outputs: Tensor) -> Tensor:
        """The combinations of outputs whose gradients are taken, shape (k, outputs)."""
        size = outputs.shape[1]
        if self.output == "pseudo":
            return outputs.new_full((1, size), size**-0.5)
        return torch.eye(size, dtype=outputs.dtype, device=outputs.device)

    def factors(self, batch: Batch, reference: Plan | None = None) -> list[Factor]:
        """The Jacobian of ``batch``, one factor per layer.

        Raises
        ------
        PathsVaryError
            When the layers used are not those of ``reference``.
        """
        with recurrent_setting(self.model):
            outputs, calls, made = self.planned(batch)
            if reference is not None and (made.uses, set(made.rest), made.shapes) != (
                reference.uses, set(reference.rest), reference.shapes
            ):  # fmt: skip
                raise PathsVaryError
            found: list[Factor] = []
            if any(made.uses.values()):
                try:
                    found = self._by_layers(outputs, calls, made)
                except HiddenLayerError as error:
                    raise RefusedError(str(error)) from error
            if made.rest:
                found.append(Dense(self._by_example(batch, list(made.rest.values()))))
        if not found:
            raise RefusedError(
                "none of the chosen parameters reaches the outputs; choose others or check requires_grad"
            )
        return found

    def _by_layers(self, outputs: Tensor, calls: list[Call], made: Plan) -> list[Factor]:
        used = sorted({i for found in made.uses.values() for i, _ in found})
        slopes = dict(
            zip(used, _returns(outputs, [calls[i].output for i in used], self.cotangents(outputs)), strict=True)
        )
        single: dict[int, set[str]] = {}
        factors: list[Factor] = []
        for found in made.uses.values():
            if len(found) == 1:
                single.setdefault(found[0][0], set()).add(found[0][1])
            elif found:  # the Jacobians of all uses are summed before any product is taken
                parts = [gradient(calls[i].module, role, calls[i].unchanged_input, slopes[i]) for i, role in found]
                factors.append(Dense(torch.stack(parts).sum(0)))
        for i, roles in sorted(single.items()):
            factors.append(self._factor(calls[i], slopes[i], roles))
        return factors

    def _factor(self, call: Call, slopes: Tensor, roles: set[str]) -> Factor:
        module, entered = call.module, call.unchanged_input
        if isinstance(module, nn.Embedding):
            index, g = (
                entered.reshape(len(entered), 1, -1),
                slopes.reshape(*slopes.shape[:2], 1, -1, module.embedding_dim),
            )
            return Outer(index, g, True, False, module.padding_idx)
        if is_product(module):
            g, a = returns(module, slopes), patches(module, entered).to(slopes.dtype)
            _, k, _, places, size = g.shape
            if factors_are_cheaper(*self.pairs, k, places, a.shape[3], size, self.output):
                return Outer(a, g.contiguous(), "weight" in roles, "bias" in roles)
        return Dense(torch.cat([gradient(module, role, entered, slopes) for role in sorted(roles)], dim=2))

    def _by_example(self, batch: Batch, parameters: list[nn.Parameter]) -> Tensor:
        """Gradients (n, k, size) one example and one output at a time: right for every module."""
        n = rows(batch)
        every = []
        for i in range(n):
            with torch.enable_grad():
                outputs = self.forward(self.model, part(batch, i, i + 1))
            every.append(jacobian_rows(outputs, parameters, self.cotangents(outputs)))
        count(gradients=n * len(every[0]))
        return torch.stack(every)


def jacobian_rows(outputs: Tensor, parameters: list[nn.Parameter], cotangents: Tensor) -> Tensor:
    """Gradient of each combination of the outputs of one example, shape (k, size), by plain reverse mode."""
    found = []
    for combination in cotangents:
        slopes = torch.autograd.grad(
            outputs, parameters, combination[None], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        flat = [s.to_dense().reshape(-1) if s.layout != torch.strided else s.reshape(-1) for s in slopes]
        found.append(torch.cat(flat))
    return _wide(torch.stack(found))


def recurrent_setting(model: nn.Module) -> AbstractContextManager[object]:
    """Recurrent networks without cuDNN, whose kernels have no backward pass in evaluation mode."""
    if any(isinstance(m, nn.RNNBase) for m in model.modules()):
        flags: AbstractContextManager[object] = torch.backends.cudnn.flags(enabled=False)
        return flags
    return nullcontext()


def example_bytes(calls: list[Call], made: Plan, outputs: int, factors: list[Factor]) -> int:
    """Memory one example takes while its Jacobian is built and kept."""
    elements = 0
    for i in {i for found in made.uses.values() for i, _ in found}:
        elements += calls[i].input.numel() + outputs * calls[i].output.numel()
        if isinstance(calls[i].module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            elements += math.prod(patches(calls[i].module, calls[i].input).shape)
    for factor in factors:
        elements += factor.jacobian.numel() if isinstance(factor, Dense) else factor.a.numel() + factor.g.numel()
    return 8 * max(1, elements)


def _returns(outputs: Tensor, layers: list[Tensor], cotangents: Tensor) -> list[Tensor]:
    """Gradient of every combination with respect to the output of every call, each (n, k, *output shape).

    Summing an output over the batch gives every example its own gradient, because no output depends on two examples.
    """
    gathered: list[list[Tensor]] = [[] for _ in layers]
    for combination in cotangents:
        slopes = torch.autograd.grad(outputs, layers, combination.expand_as(outputs), retain_graph=True)
        for kept, slope in zip(gathered, slopes, strict=True):
            kept.append(_wide(slope))
    count(gradients=len(outputs) * len(cotangents))
    return [torch.stack(kept, dim=1) for kept in gathered]


def _wide(tensor: Tensor) -> Tensor:
    """Half-precision gradients in float32: their products would overflow or drown."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
