"""The wide network that a torch network of affine layers and activations is a finite sample of."""

from __future__ import annotations

from torch import nn

from theorylens.core import RefusedError, modules_in_training

from ._infinite import Affine, WideNetwork

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.Identity: "identity", nn.ReLU: "relu", nn.LeakyReLU: "leaky_relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu", nn.GELU: "gelu", nn.Softplus: "softplus",
}  # fmt: skip
PASSED = (nn.Flatten, nn.Dropout)  # do nothing to a row of features in evaluation mode


def read_wide_network(model: nn.Module) -> WideNetwork:
    """The infinitely wide network with the layers of ``model`` and the variances measured on its weights.

    Gradients are counted as torch trains it (standard parametrisation): each layer's share of the tangent kernel grows
    with its fan-in. Read an untrained network: after training the weights are neither independent nor centred.

    Parameters
    ----------
    model
        `nn.Sequential` (also nested) of `nn.Linear` and activations, in evaluation mode; `nn.Flatten` before the first
        layer, `nn.Dropout` anywhere. Parameters that do not require a gradient are left out of the tangent kernel.

    Raises
    ------
    RefusedError
        Another module (named), dropout in training mode, two affine layers or activations in a row, no hidden layer.
    """
    if noisy := modules_in_training(model):
        raise RefusedError(f"{', '.join(noisy)} is in training mode; call model.eval()")
    layers: list[Affine] = []
    activations: list[str] = []
    slopes: list[float | None] = []
    for name, module in _leaves(model, ""):
        if isinstance(module, PASSED):
            continue
        if isinstance(module, nn.Linear):
            if len(layers) != len(activations):
                raise RefusedError(f"{name} follows another affine layer; an activation is needed between the two")
            layers.append(_affine(module, first=not layers))
        elif type(module) in ACTIVATIONS and len(layers) == len(activations) + 1:
            activations.append(_activation(name, module))
            slopes.append(module.negative_slope if isinstance(module, nn.LeakyReLU) else None)
        else:
            raise RefusedError(
                f"{name} ({type(module).__name__}) has no kernel of infinite width here; needed is an nn.Sequential of "
                f"nn.Linear layers with one of {', '.join(kind.__name__ for kind in ACTIVATIONS)} between them"
            )
    if len(layers) < 2 or len(layers) != len(activations) + 1:
        raise RefusedError(
            f"the model has {len(layers)} affine layers and {len(activations)} activations; needed is at least one "
            "hidden layer and an affine layer at the end"
        )
    return WideNetwork(layers=tuple(layers), activations=tuple(activations), slopes=tuple(slopes))


def _leaves(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    if not isinstance(module, nn.Sequential):
        return [(name or "the model", module)]
    return [leaf for key, child in module.named_children() for leaf in _leaves(child, f"{name}.{key}".lstrip("."))]


def _activation(name: str, module: nn.Module) -> str:
    if isinstance(module, nn.Softplus) and (module.beta != 1 or module.threshold < 20):
        raise RefusedError(f"{name} is a Softplus with beta {module.beta}; the kernel is known for beta 1 only")
    if isinstance(module, nn.GELU) and module.approximate == "tanh":
        return "gelu_tanh"
    return ACTIVATIONS[type(module)]


def _affine(layer: nn.Linear, first: bool) -> Affine:
    second = float(layer.weight.detach().double().square().mean())
    bias = None if layer.bias is None else layer.bias.detach().double()
    fan_in = 1.0 if first else float(layer.in_features)
    trained = bias is not None and layer.bias.requires_grad
    return Affine(
        weight_variance=fan_in * second,
        bias_variance=0.0 if bias is None else float(bias.square().mean()),
        weight_gradient=fan_in if layer.weight.requires_grad else 0.0,
        bias_gradient=float(trained),
    )
