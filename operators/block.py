"""Many arrays in one piece of memory, for kernels.

Each array that is handed to compiled code costs 50 to 100 ns, and one object more that a frame has to touch. A block costs that
once: it begins with a directory (byte offset, rows, columns of each section), and a kernel takes its arrays out of it by
number, at no cost. Without numba the same calls give NumPy views of the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64  # bytes: a cache line
ENTRY = 24  # bytes of the directory per section
_I8 = np.dtype("<i8")


class Block:
    """Copies of the given arrays in one piece: `memory` (bytes) holds them all, `arrays` are the views of it."""

    def __init__(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        at, places = _round_up(ENTRY * len(arrays)), []
        for array in arrays:
            places.append(at)
            at = _round_up(at + array.nbytes)
        raw = np.zeros(at + ALIGNMENT, np.uint8)
        begin = -raw.ctypes.data % ALIGNMENT
        self.memory = raw[begin : begin + at]
        self._directory = self.memory[: ENTRY * len(arrays)].view(_I8).reshape(-1, 3)
        self.arrays = [self._settle(n, places[n], array) for n, array in enumerate(arrays)]

    @classmethod
    def holding(cls, fields: Sequence[tuple[Any, str]]) -> Block:
        """Move the named arrays of objects into one block: each attribute becomes a view of it."""
        block = cls([getattr(owner, name) for owner, name in fields])
        for (owner, name), view in zip(fields, block.arrays, strict=True):
            setattr(owner, name, view)
        return block

    def shorten(self, section: int, rows: int) -> None:
        """Say how many rows of a section count; there is room for as many as it was made with."""
        if rows > len(self.arrays[section]):
            raise ValueError(f"expected at most {len(self.arrays[section])} rows in section {section}, got {rows}")
        self._directory[section, 1] = rows

    def place(self, section: int) -> int:
        """Return where a section begins, in bytes."""
        return int(self._directory[section, 0])

    def _settle(self, section: int, at: int, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows, columns = array.shape if array.ndim == 2 else (len(array), 1)
        self._directory[section] = at, rows, columns
        view: npt.NDArray[Any] = self.memory[at : at + array.nbytes].view(array.dtype).reshape(array.shape)
        if array.reshape(-1).view(np.uint8).any():  # untouched, large tables cost no memory until they are used
            view[...] = array
        return view


def _round_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


# ---- for kernels -------------------------------------------------------------------------------------------------------


def vector_at(memory: Any, at: int, rows: int, dtype: Any) -> Any:
    """Return `rows` elements that begin at byte `at`."""
    view = memory[at : at + rows * dtype.itemsize].view(dtype)
    return view.view(np.recarray) if dtype.names else view


def matrix_at(memory: Any, at: int, rows: int, columns: int, dtype: Any) -> Any:
    """Return rows × columns elements that begin at byte `at`."""
    return vector_at(memory, at, rows * columns, dtype).reshape(rows, columns)


def vector(memory: Any, section: int, dtype: Any) -> Any:
    """Return a section of one dimension."""
    at, rows, _ = vector_at(memory, ENTRY * section, 3, _I8)
    return vector_at(memory, at, rows, dtype)


def matrix(memory: Any, section: int, dtype: Any) -> Any:
    """Return a section of two dimensions."""
    at, rows, columns = vector_at(memory, ENTRY * section, 3, _I8)
    return matrix_at(memory, at, rows, columns, dtype)


def place(memory: Any, section: int) -> Any:
    """Return where a section begins, in bytes."""
    return vector_at(memory, ENTRY * section, 3, _I8)[0]


try:
    import numba
    from numba.extending import intrinsic, overload
except ImportError:  # the functions above are what kernels call
    numba = None
else:

    @intrinsic  # type: ignore[untyped-decorator]
    def _pointer(_: Any, address: Any) -> Any:
        """Turn an address into a pointer."""
        to = numba.types.voidptr

        def build(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(to))

        return to(numba.types.uintp), build

    @overload(vector_at)  # type: ignore[untyped-decorator]
    def _vector_at(memory: Any, at: Any, rows: Any, dtype: Any) -> Any:
        def compiled(memory: Any, at: Any, rows: Any, dtype: Any) -> Any:
            return numba.carray(_pointer(np.uintp(memory.ctypes.data + np.uintp(at))), (rows,), dtype)

        return compiled

    @overload(matrix_at)  # type: ignore[untyped-decorator]
    def _matrix_at(memory: Any, at: Any, rows: Any, columns: Any, dtype: Any) -> Any:
        def compiled(memory: Any, at: Any, rows: Any, columns: Any, dtype: Any) -> Any:
            return numba.carray(_pointer(np.uintp(memory.ctypes.data + np.uintp(at))), (rows, columns), dtype)

        return compiled

    @overload(vector)  # type: ignore[untyped-decorator]
    def _vector(memory: Any, section: Any, dtype: Any) -> Any:
        def compiled(memory: Any, section: Any, dtype: Any) -> Any:
            entry = vector_at(memory, ENTRY * section, 3, _I8)
            return vector_at(memory, entry[0], entry[1], dtype)

        return compiled

    @overload(matrix)  # type: ignore[untyped-decorator]
    def _matrix(memory: Any, section: Any, dtype: Any) -> Any:
        def compiled(memory: Any, section: Any, dtype: Any) -> Any:
            entry = vector_at(memory, ENTRY * section, 3, _I8)
            return matrix_at(memory, entry[0], entry[1], entry[2], dtype)

        return compiled

    @overload(place)  # type: ignore[untyped-decorator]
    def _place(memory: Any, section: Any) -> Any:
        def compiled(memory: Any, section: Any) -> Any:
            return vector_at(memory, ENTRY * section, 3, _I8)[0]

        return compiled
