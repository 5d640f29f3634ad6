"""Independent Gaussians over the weights of a network: the posteriors of PAC-Bayes certificates.

Method   prior N(w0, s0^2) around a network's own weights, posterior N(m, s^2) with m and s free, one draw per example
         where the layers allow it (local reparameterisation), else one draw per batch
Source   Blundell et al. (2015), ICML; Kingma, Salimans, Welling (2015), NeurIPS; Dziugaite, Roy (2017), UAI
Assumes  the network treats examples one by one, in evaluation mode: statistics of batch-norm are then part of the prior
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Run = Callable[[nn.Module], Any]
"""``run(model)``: one forward pass over a few examples; what it returns has one row per example."""


class GaussianPosterior(nn.Module):
    """A network whose weights are drawn anew at every call: around ``net`` before training, and wherever it leads.

    Calling it draws from the posterior with torch's global random state. Parameters to train: ``means`` and
    ``log_ratios``, the logarithms of std over the prior's; both start at the prior, so the divergence starts at 0.

    Parameters
    ----------
    net
        Its weights are the means of the prior. A copy is kept, in evaluation mode whatever `train` says.
    prior_std
        Standard deviation of the prior, the same for all random weights.
    names
        The parameters that are random; the others stay fixed and belong to the prior. See `drawable`.
    by_example
        Whether every example of a batch gets a draw of its own; needs ``names`` from dense layers only.

    Raises
    ------
    ValueError
        A prior_std that is not a positive number, no names, an unknown name, a name outside of dense layers when
        ``by_example``; batch-norm that uses the batch itself.
    """

    def __init__(self, net: nn.Module, prior_std: float, names: Sequence[str], *, by_example: bool) -> None:
        super().__init__()
        if not (math.isfinite(prior_std) and prior_std > 0):
            raise ValueError(f"prior_std must be a positive number, got {prior_std}")
        known = dict(net.named_parameters())
        if not names or not set(names) <= set(known):
            raise ValueError(f"names of parameters are needed, got {sorted(set(names) - set(known)) or 'none'}")
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        _refuse_batch_statistics(self.net)
        self.names, self.prior_std, self.by_example = tuple(names), prior_std, by_example
        values = [known[name].detach().clone() for name in self.names]
        self.means = nn.ParameterList(values)
        self.log_ratios = nn.ParameterList([torch.zeros_like(v) for v in values])
        for i, value in enumerate(values):
            self.register_buffer(f"prior_mean_{i}", value.clone())
            self.register_buffer(f"prior_std_{i}", torch.full_like(value, prior_std, dtype=torch.float64))
        self._dense = self._dense_layers() if by_example else {}

    def _dense_layers(self) -> dict[str, nn.Linear]:
        modules = dict(self.net.named_modules())
        found = {}
        for name in self.names:
            owner = name.rpartition(".")[0]
            layer = modules[owner]
            if not isinstance(layer, nn.Linear):
                raise ValueError(f"draws per example need dense layers; {name} belongs to a {type(layer).__name__}")
            found[owner] = layer
        return found

    def train(self, mode: bool = True) -> GaussianPosterior:
        """Set the mode of the posterior; the network inside stays in evaluation mode."""
        super().train(mode)
        self.net.eval()
        return self

    @property
    def parameters_drawn(self) -> int:
        return sum(mean.numel() for mean in self.means)

    def successor(self) -> GaussianPosterior:
        """A posterior that starts where this one is and has it as its prior: the next step of a recursion."""
        after = copy.deepcopy(self)
        with torch.no_grad():
            for i in range(len(self.names)):
                after.get_buffer(f"prior_mean_{i}").copy_(self.means[i])
                after.get_buffer(f"prior_std_{i}").copy_(
                    self.get_buffer(f"prior_std_{i}") * self.log_ratios[i].double().exp()
                )
                after.log_ratios[i].zero_()
        return after

    def stds(self) -> list[Tensor]:
        """Standard deviation of each random weight, as `means`."""
        priors = [self.get_buffer(f"prior_std_{i}") for i in range(len(self.names))]
        return [(std * ratio.exp()).to(ratio.dtype) for std, ratio in zip(priors, self.log_ratios, strict=True)]

    def divergence(self) -> Tensor:
        """KL(posterior || prior) in nats, float64.

        >>> net = nn.Linear(1, 1, bias=False)
        >>> q = GaussianPosterior(net, 1.0, ["weight"], by_example=True)
        >>> _ = q.means[0].data.add_(1), q.log_ratios[0].data.fill_(math.log(0.5))
        >>> round(float(q.divergence().detach()), 6)
        0.818147
        """
        parts = []
        for i, (mean, ratio) in enumerate(zip(self.means, self.log_ratios, strict=True)):
            r, shift = ratio.double(), mean.double() - self.get_buffer(f"prior_mean_{i}").double()
            spread = self.get_buffer(f"prior_std_{i}")
            parts.append((torch.expm1(2 * r) / 2 - r).sum() + ((shift / spread) ** 2).sum() / 2)
        return torch.stack(parts).sum()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The output of ``net`` with weights drawn from the posterior."""
        stds = self.stds()
        if not self.by_example:
            drawn = [m + s * torch.randn_like(s) for m, s in zip(self.means, stds, strict=True)]
            return functional_call(self.net, dict(zip(self.names, drawn, strict=True)), inputs, named)
        with self._noisy(dict(zip(self.names, stds, strict=True))):
            return functional_call(self.net, dict(zip(self.names, self.means, strict=True)), inputs, named)

    @contextmanager
    def _noisy(self, stds: dict[str, Tensor]) -> Iterator[None]:
        """Dense layers whose outputs vary as if each example had weights of its own.

        With w ~ N(m, s^2) drawn for one example x, the outputs of the layer are independent N(m x, s^2 x^2).
        """
        with ExitStack() as hooks:
            for owner, layer in self._dense.items():
                prefix = f"{owner}." if owner else ""
                handle = layer.register_forward_hook(_adding(stds.get(f"{prefix}weight"), stds.get(f"{prefix}bias")))
                hooks.callback(handle.remove)
            yield


def _adding(weight: Tensor | None, bias: Tensor | None) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        del layer
        (x,) = inputs
        if x.ndim != 2:
            raise ValueError(f"draws per example need inputs (examples, features), got shape {tuple(x.shape)}")
        shifts = None if bias is None else bias**2
        if weight is None:
            variance = torch.zeros_like(output) + (0.0 if shifts is None else shifts)
        else:
            variance = F.linear(x**2, weight**2, shifts)
        # The root has no finite slope at 0, where an example has only zeros as inputs.
        return output + variance.clamp_min(1e-20).sqrt() * torch.randn_like(output)

    return add


def drawable(net: nn.Module, run: Run) -> tuple[tuple[str, ...], bool]:
    """Names of the parameters to make random, and whether every example may have a draw of its own.

    Those of the dense layers that ``run`` uses once, on a matrix (examples, features), where no parameter is shared;
    where there are none, all parameters that require a gradient, with one draw per batch.

    Raises
    ------
    ValueError
        No parameter requires a gradient, or the examples of a batch do not stand alone.
    """
    trainable = [name for name, p in net.named_parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("the network has no parameter that requires a gradient; nothing can be random")
    uses = _uses(net, run)
    owners: dict[int, int] = {}
    for _, p in net.named_parameters(remove_duplicate=False):
        owners[id(p)] = owners.get(id(p), 0) + 1
    dense = {
        name
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Linear)
        and uses.get(name) == [2]
        and all(owners[id(p)] == 1 for p in layer.parameters(recurse=False))
    }
    alone = tuple(name for name in trainable if name.rpartition(".")[0] in dense)
    return (alone, True) if alone else (tuple(trainable), False)


def _uses(net: nn.Module, run: Run) -> dict[str, list[int]]:
    """For each dense layer, the number of axes of its input at each use."""
    found: dict[str, list[int]] = {}
    with ExitStack() as hooks, torch.no_grad():
        for name, layer in net.named_modules():
            if isinstance(layer, nn.Linear):

                def note(_: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                    found.setdefault(name, []).append(inputs[0].ndim if inputs else 0)

                hooks.callback(layer.register_forward_pre_hook(note).remove)
        run(net)
    return found


def _refuse_batch_statistics(net: nn.Module) -> None:
    for name, module in net.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"{name} normalises with the statistics of the batch at hand, so the answer for one example depends on "
                "others and no bound on single examples holds; use running statistics (track_running_stats=True)"
            )
