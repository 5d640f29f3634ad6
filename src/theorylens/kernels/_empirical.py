"""The empirical neural tangent kernel: how much a step on one example moves the outputs on another.

Method   Theta(x, x') = J(x) J(x')^T, summed layer by layer from Gram matrices of activations and output gradients
Source   Jacot, Gabriel, Hongler (2018), NeurIPS; layer-wise products: Novak, Sohl-Dickstein, Schoenholz (2022), ICML
Assumes  evaluation mode; every output depends on its own example only (checked)
Breaks   where the network is not differentiable (a ReLU at exactly zero) the kernel takes torch's subgradient
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast, get_args

import torch
from torch import Tensor, nn

from theorylens.core import RefusedError, check_finite, modules_in_training
from theorylens.numerics import Batch, part, rows
from theorylens.numerics.layer_calls import Plan

from ._gram import Dense, Factor, Outer, Output, gram
from ._jacobian import Forward, Linearisation, PathsVaryError, example_bytes, jacobian_rows, recurrent_setting

MEMORY = 1 << 29  # bytes of Jacobian factors kept per side: half a GiB
CHECKED = 8  # outputs of one example whose gradients are compared with plain reverse mode
SLICES = 4  # a symmetric block is multiplied in slices, so that 10 of 16 products are needed
WORTH_SLICING = 256  # rows below which one product is faster than ten small ones


def ntk(
    model: nn.Module,
    x1: Batch,
    x2: Batch | None = None,
    output: str = "full",
    *,
    parameters: Sequence[str] | None = None,
    forward: Forward | None = None,
    batch_size: int | None = None,
    memory: int = MEMORY,
) -> Tensor:
    """Empirical neural tangent kernel between the examples of ``x1`` and of ``x2``.

    Parameters
    ----------
    model
        Any module in evaluation mode. Parameters that do not require a gradient are left out.
    x1, x2
        Inputs, example on the first axis (a tensor, or any pytree that ``forward`` understands). Without ``x2`` the
        kernel of ``x1`` with itself, of which only half is computed.
    output
        ``"full"``: (n1, n2, C, C), the kernel of every pair of outputs. ``"diag"``: (n1, n2, C), each output with
        itself. ``"trace"``: (n1, n2), the **sum** over outputs of ``diag`` (a sum, not a mean). ``"pseudo"``:
        (n1, n2), the kernel of the one function ``sum of outputs / sqrt(C)``, C times cheaper.
    parameters
        Names from ``named_parameters()`` to differentiate; all trainable ones by default.
    forward
        ``forward(model, x) -> outputs`` of shape (n, C); by default ``model(x)``.
    batch_size
        Examples whose Jacobian is held at once; by default as many as fit into ``memory`` bytes. It does not change
        the answer.

    Returns
    -------
    Tensor
        On the model's device, in its dtype (float32 for half precision).

    Raises
    ------
    RefusedError
        Dropout or batch normalisation in training mode, no trainable parameter, a value that is not finite, outputs
        that are not (n, C) or that depend on the other examples of a batch.
    ValueError
        An unknown ``output`` or parameter name, or a batch size below one.

    Notes
    -----
    Linear, convolution, normalisation and embedding layers are multiplied as Gram products; parameters of any other
    module, or used where no layer call shows it, by per-example gradients. Tied weights and layers used twice have
    the Jacobians of all their uses summed first. The result for one example is checked against plain reverse mode.

    >>> layer = nn.Linear(2, 1)
    >>> ntk(layer, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), output="trace")
    tensor([[ 6., 12.],
            [12., 26.]])
    """
    if output not in get_args(Output):
        raise ValueError(f"output must be one of {', '.join(get_args(Output))}, got {output!r}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if noisy := modules_in_training(model):
        raise RefusedError(f"{', '.join(noisy)} is in training mode, so there is no one kernel; call model.eval()")
    check_finite(model)
    pairs = (rows(x1), rows(x1 if x2 is None else x2))
    chosen = _chosen(model, parameters)
    tangent = Linearisation(model, forward or _call, chosen, cast("Output", output), pairs)
    try:
        return _kernel(tangent, x1, x2, batch_size, memory)
    except PathsVaryError:
        return _kernel(replace(tangent, by_layers=False), x1, x2, batch_size, memory)


def _call(model: nn.Module, x: Batch) -> Tensor:
    outputs: Tensor = model(x)
    return outputs


def _chosen(model: nn.Module, names: Sequence[str] | None) -> dict[str, nn.Parameter]:
    known = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not known:
        raise RefusedError("the model has no parameter that requires a gradient; set requires_grad on those to vary")
    if names is None:
        return known
    if not names or (absent := sorted(set(names) - set(known))):
        raise ValueError(
            f"no trainable parameters named {absent if names else '(none given)'}; there are {sorted(known)}"
        )
    return {name: known[name] for name in known if name in set(names)}


def _kernel(tangent: Linearisation, x1: Batch, x2: Batch | None, batch_size: int | None, memory: int) -> Tensor:
    reference, size = _study(tangent, x1, batch_size, memory)
    other = x1 if x2 is None else x2
    n1, n2 = tangent.pairs
    total: Tensor | None = None
    for i in _blocks(n1, size):
        left = tangent.factors(part(x1, i.start, i.stop), reference)
        if total is None:
            _agree_with_reverse_mode(tangent, part(x1, i.start, i.stop), left)
        for j in _blocks(n2, size):
            if x2 is None and j.start < i.start:
                continue
            same = x2 is None and j == i
            right = left if same else tangent.factors(part(other, j.start, j.stop), reference)
            block = _symmetric(left, i.stop - i.start, tangent.output) if same else gram(left, right, tangent.output)
            if total is None:
                total = block.new_zeros(n1, n2, *block.shape[2:])
            total[i, j] = block
            if x2 is None and not same:
                total[j, i] = _mirrored(block)
    assert total is not None
    if not bool(torch.isfinite(total).all()):
        raise RefusedError("the tangent kernel is not finite; gradients overflow: use float64 or check the weights")
    return total


def _study(tangent: Linearisation, x1: Batch, batch_size: int | None, memory: int) -> tuple[Plan, int]:
    """What one example alone says: which layers it uses, and how many like it fit into memory."""
    one = part(x1, 0, 1)
    with recurrent_setting(tangent.model):
        outputs, calls, made = tangent.planned(one)
    if batch_size is not None:
        return made, batch_size
    k = 1 if tangent.output == "pseudo" else outputs.shape[1]
    held = example_bytes(calls, made, k, tangent.factors(one))
    return made, max(1, memory // held)


def _blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _symmetric(factors: list[Factor], n: int, output: Output) -> Tensor:
    """Gram block of a list of factors with itself, upper slices only, mirrored."""
    slices = SLICES if n * _outputs(factors) >= WORTH_SLICING and n >= SLICES else 1
    cuts = [n * s // slices for s in range(slices + 1)]
    pieces = [[f.rows(a, b) for f in factors] for a, b in pairwise(cuts)]
    total: Tensor | None = None
    for s, left in enumerate(pieces):
        for t in range(s, slices):
            block = gram(left, pieces[t], output)
            if s == t:
                block = (block + _mirrored(block)) / 2
            if total is None:
                total = block.new_zeros(n, n, *block.shape[2:])
            total[cuts[s] : cuts[s + 1], cuts[t] : cuts[t + 1]] = block
            if s != t:
                total[cuts[t] : cuts[t + 1], cuts[s] : cuts[s + 1]] = _mirrored(block)
    assert total is not None
    return total


def _mirrored(block: Tensor) -> Tensor:
    """The block of (x2, x1) from that of (x1, x2): outputs change places too."""
    return block.transpose(0, 1).transpose(2, 3) if block.ndim == 4 else block.transpose(0, 1)


def _outputs(factors: list[Factor]) -> int:
    first = factors[0]
    return first.g.shape[1] if isinstance(first, Outer) else first.jacobian.shape[1]


def _agree_with_reverse_mode(tangent: Linearisation, block: Batch, factors: list[Factor]) -> None:
    """Compare the last example of a block with the same example alone: outputs, and the kernel of a few outputs.

    This finds outputs that depend on the company, and any use of a parameter that the plan could not see.
    """
    n = rows(block)
    alone = part(block, n - 1, n)
    with recurrent_setting(tangent.model), torch.enable_grad():
        together = tangent.forward(tangent.model, block).detach()[n - 1]
        outputs = tangent.forward(tangent.model, alone)
        cotangents = tangent.cotangents(outputs)
        some = torch.linspace(0, len(cotangents) - 1, min(CHECKED, len(cotangents))).round().long()
        rows_alone = jacobian_rows(outputs, list(tangent.parameters.values()), cotangents[some])
    eps = torch.finfo(outputs.dtype).eps
    near = 1e3 * eps if outputs.device.type == "cpu" else 10 * eps**0.5
    gap, scale = float((together - outputs.detach()[0]).abs().max()), float(together.abs().max())
    if gap > near * max(scale, 1e-30):
        raise RefusedError(
            f"the outputs of an example change by {gap:.3g} (largest output {scale:.3g}) when it is alone in the "
            "batch, so there is no kernel between examples; remove what mixes examples or draws random numbers"
        )
    chosen = [_restricted(f, n, some) for f in factors]
    built, expected = gram(chosen, chosen, "full")[0, 0], rows_alone @ rows_alone.T
    error, size = float((built - expected).abs().max()), float(expected.abs().max())
    if error > min(0.1, 30 * eps**0.5) * size:
        raise RefusedError(
            f"the layer-wise kernel of one example differs from plain reverse mode by {error:.3g} of {size:.3g}; "
            "the model uses a layer in a way that its calls do not show: give parameters= "
            "without that layer, or report this"
        )


def _restricted(factor: Factor, n: int, outputs: Tensor) -> Factor:
    """The last of ``n`` examples and some of its outputs."""
    last = factor.rows(n - 1, n)
    if isinstance(last, Dense):
        return Dense(last.jacobian[:, outputs])
    return replace(last, g=last.g[:, outputs])
