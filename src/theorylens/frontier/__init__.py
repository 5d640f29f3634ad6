"""What does young theory predict about this network, and does the measurement agree?

`mean_field` is the theory of wide random networks as numbers; the probe puts it beside the gradients of the network in
hand, and says where the theory does not apply.
"""

from ._environments import group_dro_risk, group_dro_weights, irm_penalty, vrex_penalty
from ._layer_signals import LayerSignal, layer_signals
from ._loss_gap import loss_gap
from ._mean_field import ACTIVATIONS, MeanField, NoFixedPointError, chi, mean_field
from ._optimisation_advice import OptimisationAdvice, recommend_optimisation
from ._signal_propagation import probe_signal_propagation

PROBES = (probe_signal_propagation,)

__all__ = [
    "ACTIVATIONS", "PROBES", "LayerSignal", "MeanField", "NoFixedPointError", "OptimisationAdvice", "chi",
    "group_dro_risk", "group_dro_weights", "irm_penalty", "layer_signals", "loss_gap", "mean_field",
    "probe_signal_propagation", "recommend_optimisation", "vrex_penalty",
]  # fmt: skip
