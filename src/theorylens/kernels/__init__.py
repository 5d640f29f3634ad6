"""In which directions does the network learn, and did training change them?

`ntk` is the exact tangent kernel of any module; what is said about it (`alignment`, `effective_dimension`,
`kernel_movement`) takes plain matrices. Probes use one keyed choice of training rows and compute each kernel once.
"""

from ._alignment import alignment
from ._alignment_probe import probe_alignment
from ._balanced_alignment import balanced_alignment
from ._diagonal_network import DiagonalNetwork, diagonal_network_limit
from ._dimension_probe import probe_effective_dimension
from ._dynamics import Trajectory, Unseen, gradient_descent, gradient_flow, max_stable_lr
from ._effective_dimension import effective_dimension, leverage
from ._empirical import ntk
from ._entropy_flow import cross_entropy_flow
from ._infinite import Affine, WideKernels, WideNetwork, wide_kernels, wide_network
from ._laziness import Laziness, laziness
from ._linearised import Linearised
from ._movement import Movement, kernel_movement
from ._movement_probe import probe_movement
from ._prediction import Prediction, predicted_training
from ._reading import read_wide_network
from ._regimes import RegimeDiagram, regime_diagram
from ._relative_curvature import relative_curvature
from ._scaled import Scaled

PROBES = (probe_alignment, probe_effective_dimension, probe_movement)

__all__ = [
    "PROBES", "Affine", "DiagonalNetwork", "Laziness", "Linearised", "Movement", "Prediction", "RegimeDiagram",
    "Scaled", "Trajectory", "Unseen", "WideKernels", "WideNetwork", "alignment", "balanced_alignment",
    "cross_entropy_flow", "diagonal_network_limit", "effective_dimension", "gradient_descent", "gradient_flow",
    "kernel_movement", "laziness", "leverage", "max_stable_lr", "ntk", "predicted_training", "probe_alignment",
    "probe_effective_dimension", "probe_movement", "read_wide_network", "regime_diagram", "relative_curvature",
    "wide_kernels", "wide_network",
]  # fmt: skip
