"""Functions of single numbers applied to arrays: numbers give a number, arrays broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def elementwise(function: Callable[..., Any], *arguments: Any, dtype: type = float) -> Any:
    """``function`` of the broadcast ``arguments``; with ``dtype`` object its values stay what they are."""
    arrays = [np.asarray(each) for each in arguments]
    if not any(each.ndim for each in arrays):
        return function(*(each.item() for each in arrays))
    try:
        together = np.broadcast_arrays(*arrays)
    except ValueError as error:
        shapes = " and ".join(str(each.shape) for each in arrays)
        raise ValueError(f"arrays of shapes {shapes} do not broadcast; give equal shapes or single numbers") from error
    found: NDArray[Any] = np.empty(together[0].shape, dtype=dtype)
    flat = found.reshape(-1)
    for i, values in enumerate(zip(*(each.ravel() for each in together), strict=True)):
        flat[i] = function(*(value.item() if isinstance(value, np.generic) else value for value in values))
    return found
