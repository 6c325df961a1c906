"""Weight tables: integer tables for integers about zero, by their code of 8 bits.

    code = 128 * family + k,    scale = 2 ** (k / 12 - 4),    k = 0 ... 127
    family 0: a normal distribution of this standard deviation; 1: a Laplace distribution of this mean absolute value

They are made with decimal arithmetic, whose results do not depend on the machine: the same tables everywhere.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from functools import cache

import numpy as np
import torch
from codomain.codecs.coder import Tables
from jaxtyping import Float, Int32, Int64, UInt8

PRECISION = 15
PER_OCTAVE, LOWEST, N_SCALES = 12, -4, 128
REACH = {0: 6, 1: 14}  # scales beyond which a family's values are escaped
POINTS = 16  # at which a density is summed over the unit around an integer
COUNTS = 1 << 40
ARITHMETIC = Context(prec=24)


@cache
def table(code: int) -> tuple[int, Int64[np.ndarray, " k"]]:
    """Return the first value that a table holds, and counts of it and those after it."""
    family, k = divmod(code, N_SCALES)
    with localcontext(ARITHMETIC):
        scale = Decimal(2) ** (Decimal(k) / PER_OCTAVE + LOWEST)
        most = max(1, int(scale * REACH[family]))
        density = _density(family, POINTS * scale, (2 * most + 1) * POINTS // 2)
        half = POINTS // 2
        first = 2 * sum(density[:half], Decimal(0))
        right = [sum(density[half + i * POINTS : half + (i + 1) * POINTS], Decimal(0)) for i in range(most)]
        total = first + 2 * sum(right, Decimal(0))
        counts = [int(p / total * COUNTS) + 1 for p in (*reversed(right), first, *right)]
    return -most, np.array(counts, np.int64)


def _density(family: int, scale: Decimal, n: int) -> list[Decimal]:
    """Density at 0.5, 1.5, 2.5 ... but for a factor, by products: an exponential takes far longer."""
    if family == 0:
        value, step, slope = Decimal(1), *2 * ((-1 / scale**2).exp(),)
    else:
        value, step, slope = Decimal(1), (-1 / scale).exp(), Decimal(1)
    found = []
    for _ in range(n):
        found.append(value)
        value, step = value * step, step * slope
    return found


def tables(codes: UInt8[np.ndarray, " n"]) -> Tables:
    """Return the tables of codes, a row each."""
    held = [_row(int(code)) for code in codes]
    freqs = np.zeros((len(held), max(len(row) for _, row in held)), np.int32)
    for row, (_, found) in zip(freqs, held, strict=True):
        row[: len(found)] = found
    return Tables(freqs, np.array([low for low, _ in held]), PRECISION)


@cache
def _row(code: int) -> tuple[int, Int32[np.ndarray, " k"]]:
    low, counts = table(code)
    return low, Tables.from_counts(counts[None], np.array([low]), PRECISION).freqs[0]


def choose(values: Int32[np.ndarray, " n"]) -> tuple[int, float]:
    """Return the code whose table holds values best, and the bits that they take at least with it."""
    found, counts = np.unique(np.abs(values), return_counts=True)
    bits = -np.log2(np.maximum(_probabilities(found), 2.0**-PRECISION)) @ counts
    code = int(bits.argmin())
    return code, float(bits[code])


def _probabilities(magnitudes: Int32[np.ndarray, " m"]) -> Float[np.ndarray, "codes m"]:
    """Probability of each of some values that are not negative, by code."""
    scales = 2.0 ** (np.arange(N_SCALES) / PER_OCTAVE + LOWEST)
    low, high = ((magnitudes + d) / scales[:, None] for d in (-0.5, 0.5))
    normal = torch.special.ndtr(torch.from_numpy(np.stack((-low, -high)))).numpy()
    laplace = np.where(magnitudes == 0, 1 - np.exp(-high), (np.exp(-np.maximum(low, 0)) - np.exp(-high)) / 2)
    return np.concatenate((normal[0] - normal[1], laplace))
