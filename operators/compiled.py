"""Compile numeric kernels with numba, or run them as plain Python where there is no numba (slow, same results)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

try:
    import numba
except ImportError:  # the plain functions are the fallback
    numba = None

COMPILED = numba is not None


def kernel(function: F) -> F:
    """Compile `function` at its first call; the machine code is kept on disk beside the module.

    No fast-math: a snapshot restored on another machine must give the same bits.
    """
    if numba is None:
        return function
    return numba.njit(cache=True, error_model="numpy")(function)  # type: ignore[no-any-return]
