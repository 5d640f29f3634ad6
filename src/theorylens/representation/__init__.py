"""Representation: what do the layers keep of the inputs, and in what form?

Design: features are read layer by layer on one keyed choice of rows; each curve over depth has the untrained network
beside it, because random layers already do much of what training is praised for.
"""

from ._collapse import Collapse, fisher_ratio, neural_collapse, within_class_variability
from ._collapse_probe import probe_neural_collapse
from ._compositionality import Compositional, topographic_similarity, tree_reconstruction_error
from ._contrastive import Contrast, contrastive_scores, infonce
from ._dimension_by_depth import probe_two_nn
from ._disentanglement import (
    Disentangled,
    completeness_score,
    dci,
    disentanglement_score,
    mig,
    mutual_information_gap,
)
from ._effective_rank import (
    covariance_eigenvalues,
    effective_rank,
    entropy_dimension,
    participation_ratio,
    rankme,
)
from ._embedding import (
    LocallyLinear,
    Neighbourly,
    barycentric_weights,
    lle,
    tsne,
    tsne_gradient,
    tsne_objective,
)
from ._embedding_quality import Kept, neighbours_kept
from ._information_bottleneck import (
    Bottleneck,
    GaussianBottleneck,
    Variational,
    bottleneck_curve,
    bottleneck_objective,
    gaussian_bottleneck,
    information_bottleneck,
    variational_bottleneck,
)
from ._information_probe import probe_label_information
from ._intrinsic_dimension import two_nn
from ._label_information import label_entropy, label_information
from ._layer_profile import LayerProfile, LayerRow, layer_profile
from ._likelihood_dimension import dimension_by_scale, local_dimensions, mle_dimension
from ._linear_pieces import NotPiecewiseLinearError, Pieces, linear_pieces
from ._linear_probe import Read, linear_probe
from ._manifold_test import ManifoldReport, ManifoldTest, Unrolled, manifold_report, manifold_test
from ._mutual_information import discrete_mutual_information, gaussian_mutual_information, ksg, ross
from ._pieces_probe import probe_linear_pieces
from ._quality import Quality, alignment_loss, knn_accuracy, representation_quality, uniformity_loss
from ._readout_by_depth import probe_linear_probe
from ._region_counts import (
    RegionBounds,
    log2_dichotomies_bound,
    montufar_lower_bound,
    region_bounds,
    serra_upper_bound,
    threshold_functions,
    zaslavsky,
)
from ._scaling_dimension import (
    correlation_dimension,
    correlation_integral,
    knn_graph_dimension,
    pettis_dimension,
    scaling_curve,
)
from ._similarity import cka, cka_matrix, linear_cka
from ._similarity_probe import probe_cka

__all__ = [
    "PROBES", "Bottleneck", "Collapse", "Compositional", "Contrast", "Disentangled", "GaussianBottleneck", "Kept",
    "LayerProfile", "LayerRow", "LocallyLinear", "ManifoldReport", "ManifoldTest", "Neighbourly",
    "NotPiecewiseLinearError", "Pieces", "Quality", "Read", "RegionBounds", "Unrolled", "Variational",
    "alignment_loss", "barycentric_weights", "bottleneck_curve", "bottleneck_objective", "cka", "cka_matrix",
    "completeness_score", "contrastive_scores", "correlation_dimension", "correlation_integral",
    "covariance_eigenvalues", "dci", "dimension_by_scale", "discrete_mutual_information", "disentanglement_score",
    "effective_rank", "entropy_dimension", "fisher_ratio", "gaussian_bottleneck", "gaussian_mutual_information",
    "infonce", "information_bottleneck", "knn_accuracy", "knn_graph_dimension", "ksg", "label_entropy",
    "label_information", "layer_profile", "linear_cka", "linear_pieces", "linear_probe", "lle", "local_dimensions",
    "log2_dichotomies_bound", "manifold_report", "manifold_test", "mig", "mle_dimension", "montufar_lower_bound",
    "mutual_information_gap", "neighbours_kept", "neural_collapse", "participation_ratio", "pettis_dimension",
    "probe_cka", "probe_label_information", "probe_linear_pieces", "probe_linear_probe", "probe_neural_collapse",
    "probe_two_nn", "rankme", "region_bounds", "representation_quality", "ross", "scaling_curve", "serra_upper_bound",
    "threshold_functions", "topographic_similarity", "tree_reconstruction_error", "tsne", "tsne_gradient",
    "tsne_objective", "two_nn", "uniformity_loss", "variational_bottleneck", "within_class_variability", "zaslavsky",
]  # fmt: skip

PROBES = (
    probe_two_nn,
    probe_linear_probe,
    probe_label_information,
    probe_neural_collapse,
    probe_cka,
    probe_linear_pieces,
)
