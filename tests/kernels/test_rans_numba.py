from __future__ import annotations

import numpy as np
from codomain.kernels import rans, rans_numba


def test_columns_and_symbols_are_inverse_but_for_escapes() -> None:
    offsets = np.array([-3, 10], np.int32)
    freqs = np.array([[5, 0, 7, 1, 243], [9, 9, 9, 9, 220]], np.uint32)
    symbols = np.array([-3, -2, -1, 0, 1, -4, 10, 13, 14, 9, 2**31 - 1, -(2**31)], np.int32)
    rows = np.array([0] * 6 + [1] * 6, np.uint16)
    columns, escaped = rans.columns_of(symbols, rows, offsets, freqs)
    assert columns.tolist() == [0, 4, 2, 3, 4, 4, 0, 3, 4, 4, 4, 4]
    assert escaped == 7
    back, again = rans.symbols_of(columns, rows, offsets, 4)
    assert again == escaped
    held = columns != 4
    np.testing.assert_array_equal(back[held], symbols[held])


def test_escapes_are_listed_in_coding_order() -> None:
    """Below and beyond a table, in a gap of it, and as far as integers go."""
    offsets = np.array([-3, 10], np.int32)
    freqs = np.array([[5, 0, 7, 1, 243], [9, 9, 9, 9, 220]], np.uint32)
    starts = np.ascontiguousarray(freqs.cumsum(1, dtype=np.uint32) - freqs)
    symbols = np.array([-3, -2, -1, 0, 1, -4, 10, 13, 14, 9, 2**31 - 1, -(2**31)], np.int32)
    rows = np.array([0] * 6 + [1] * 6, np.uint16)
    states, words, escaped = rans.encode(symbols, rows, offsets, rans.entries(freqs, starts), 8, 2)
    columns, _ = rans.columns_of(symbols, rows, offsets, freqs)
    assert escaped.tolist() == [-2, 1, -4, 14, 9, 2**31 - 1, -(2**31)]
    expected = rans.encode_reference(columns, rows, freqs, starts, 8, 2)
    assert np.array_equal(states, expected[0])
    assert np.array_equal(words, expected[1])


def test_releases_the_interpreter_and_caches() -> None:
    for kernel in (rans_numba.encode, rans_numba.decode):
        assert kernel.targetoptions["nogil"]
        assert type(kernel._cache).__name__ == "FunctionCache"
