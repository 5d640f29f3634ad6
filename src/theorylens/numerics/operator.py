"""A symmetric linear map known by its products: what eigenvalues and traces are computed from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


@runtime_checkable
class Operator(Protocol):
    """A symmetric linear map of vectors with ``size`` entries, of one ``dtype``, on one ``device``.

    Nothing is inherited: any object with these five members is one.
    """

    @property
    def size(self) -> int: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]: ...

    def __matmul__(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]: ...


class DenseOperator:
    """The operator of a matrix that fits in memory.

    Errors: not square, not floating point, not finite, or not symmetric beyond rounding.

    >>> DenseOperator(torch.tensor([[2.0, 1.0], [1.0, 3.0]])) @ torch.tensor([1.0, -1.0])
    tensor([ 1., -2.])
    """

    def __init__(self, matrix: Float[Tensor, "p p"]) -> None:
        _symmetric(matrix)
        self._matrix = matrix

    @property
    def size(self) -> int:
        return len(self._matrix)

    @property
    def dtype(self) -> torch.dtype:
        return self._matrix.dtype

    @property
    def device(self) -> torch.device:
        return self._matrix.device

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self._matrix @ vector

    def __matmul__(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self.matvec(vector)


class Derived(ABC):
    """An operator made from another one, of the same size, dtype and device."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    @property
    def size(self) -> int:
        return self._operator.size

    @property
    def dtype(self) -> torch.dtype:
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        return self._operator.device

    @abstractmethod
    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]: ...

    def __matmul__(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self.matvec(vector)


class Counted(Derived):
    """An operator that counts its products and refuses one that is not finite or of the wrong shape.

    >>> counted = Counted(DenseOperator(torch.eye(3)))
    >>> _ = counted @ torch.ones(3)
    >>> counted.products
    1
    """

    def __init__(self, operator: Operator) -> None:
        if operator.size < 1:
            raise ValueError(f"an operator needs at least one dimension, got size {operator.size}")
        super().__init__(operator)
        self.products = 0

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        product = self._operator.matvec(vector)
        self.products += 1
        if product.shape != vector.shape:
            raise ValueError(
                f"a product of this operator has shape {tuple(product.shape)}, its vectors {tuple(vector.shape)}; "
                "the operator must map vectors of its size to vectors of its size"
            )
        bad = ~torch.isfinite(product)
        if wrong := int(bad.sum()):
            first = int(bad.nonzero()[0])
            raise ValueError(
                f"product {self.products} of the operator is not finite: {wrong} of {self.size} entries, the first "
                f"at index {first}; look for overflow or NaN in the parameters, the data or the loss"
            )
        return product


def _symmetric(matrix: Tensor) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"an operator needs a square matrix, got shape {tuple(matrix.shape)}")
    if not matrix.is_floating_point():
        raise ValueError(f"an operator needs a floating-point matrix, got {matrix.dtype}; convert it first")
    if not torch.isfinite(matrix).all():
        raise ValueError("an operator needs a finite matrix, got NaN or infinite entries")
    gap = float((matrix - matrix.T).abs().max())
    scale = float(matrix.abs().max())
    # Half the digits: a product or average that should be symmetric is so far closer than that.
    if gap > torch.finfo(matrix.dtype).eps ** 0.5 * scale:
        raise ValueError(
            f"an operator needs a symmetric matrix, got entries that differ by {gap:.3g} across the diagonal "
            f"(largest entry {scale:.3g}); pass (A + A.T) / 2 if that is what you mean"
        )


def as_linear_operator(operator: Operator) -> LinearOperator:
    """The operator for SciPy: what ``scipy.sparse.linalg.eigsh``, ``cg`` and their relatives take.

    Vectors are converted to the operator's dtype and device and come back as float64 if it is float64, else float32; a
    matrix is multiplied column by column.

    >>> from scipy.sparse.linalg import eigsh
    >>> spectrum = DenseOperator(torch.arange(1.0, 9.0, dtype=torch.float64).diag())
    >>> [round(float(v), 6) for v in eigsh(as_linear_operator(spectrum), k=2, which="LA")[0]]
    [7.0, 8.0]
    """
    import numpy as np
    from scipy.sparse.linalg import LinearOperator

    dtype = np.float64 if operator.dtype == torch.float64 else np.float32

    def product(vector: Any) -> Any:
        given = torch.as_tensor(np.array(vector, dtype=dtype).reshape(-1))
        found = operator.matvec(given.to(operator.device, operator.dtype)).detach().cpu()
        return found.to(torch.float64 if dtype is np.float64 else torch.float32).numpy()

    return LinearOperator((operator.size, operator.size), matvec=product, rmatvec=product, dtype=dtype)


class Rescaled(Derived):
    """``D H D`` of an operator H and a diagonal D, given as a vector."""

    def __init__(self, operator: Operator, scale: Float[Tensor, "p"]) -> None:
        super().__init__(operator)
        self._scale = scale.to(operator.device, operator.dtype)

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self._scale * self._operator.matvec(self._scale * vector)
