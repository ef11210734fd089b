"""Compile numeric kernels with numba, or run them as plain Python where there is no numba (slow, same results)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

try:
    import numba
except ImportError:  # the plain functions are the fallback
    numba = None

COMPILED = numba is not None


def kernel(function: F) -> F:
    """Compile `function` at its first call; the machine code is kept on disk beside the module.

    No fast-math: a snapshot restored on another machine must give the same bits. For the same reason kernels widen
    float32 to float64 before they meet a Python float: numba would compute in float64, NumPy 2 in float32.
    """
    if numba is None:
        return _plain(function)
    return numba.njit(cache=True, error_model="numpy")(function)  # type: ignore[no-any-return]


def _plain(function: F) -> F:
    """Run `function` as it stands: records by attribute, and no warnings where compiled code gives none."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*(_by_attribute(a) for a in arguments))

    return call  # type: ignore[return-value]


def _by_attribute(argument: Any) -> Any:
    if isinstance(argument, np.ndarray) and argument.dtype.names and not isinstance(argument, np.recarray):
        return argument.view(np.recarray)
    return argument
