"""Compiled path of `kernels/analysis.py`: the streaming packets of `wpt_numba`, projected while in the cache.

    plane by plane of a strip:  rows --stream--> bands of one row --weights--> y, the strip's float32 projections
    then                        y --round--> integers

Every number is made by the same operations in the same order, wherever the strips end.
"""

from __future__ import annotations

import numpy as np
import torch
from codomain.kernels.compiled import compiled, run_threads
from codomain.kernels.matmul_numba import COLUMNS, ROWS, packed
from codomain.kernels.wpt import natural
from codomain.kernels.wpt_numba import OPTIONS, Taps, cut_rows, stream, workspace
from jaxtyping import Float, Integer, Shaped
from numba import uintp
from torch import Tensor

STRIP = 1 << 20  # projections that a thread holds: a strip pays for the rows around it
STEPS = 1.5 * 2**23  # float32 numbers around it are whole: adding it rounds
SMALL = np.float32(2**22).view(np.int32)  # below it in magnitude, STEPS rounds to nearest
INFINITY = np.float32(np.inf).view(np.int32)


def analyse(
    x: Shaped[Tensor, "b c h w"],
    weight: Float[Tensor, "d bands"],
    bias: Float[Tensor, " d"],
    level: int,
    taps: Taps,
    periodic: bool,
    dtype: torch.dtype,
    limits: tuple[int, int],
    scaling: tuple[float, float],
) -> Integer[Tensor, "b d gh gw"]:
    """`analyse` of ``scaling[0] * x + scaling[1]``; beyond ``limits`` integers saturate.

    ``taps`` are the halves, centre first, of the analysis filters (5 low, 4 high).
    """
    b, c, h, w = x.shape
    d, side = len(weight), 1 << level
    gh, gw = -(-h // side), -(-w // side)
    bands = weight.detach().to(torch.float32).numpy().reshape(d, c, -1)[:, :, natural(level)]
    nodes = bands.reshape(d, c, side // 2, 2 * side)  # `stream` makes two bands along h at a time, of each all along w
    weights = np.stack([[packed(nodes[:, p, node]) for node in range(side // 2)] for p in range(c)])
    scale, offset = map(np.float32, scaling)
    pictures, integers = x.detach().numpy(), torch.empty(b, d, gh, gw, dtype=dtype)
    out, first = integers.numpy(), bias.detach().to(torch.float32).numpy()
    wide, rows = -(-gw // COLUMNS) * COLUMNS, weights.shape[2] * ROWS
    strip = max(8, STRIP // (rows * wide))
    finite = []

    def run(at: int, end: int) -> None:
        """Block rows [at, end), counted through all pictures."""
        y = np.empty((min(strip, end - at), rows, wide), np.float32)
        while at < end:
            picture, top = divmod(at, gh)
            bottom = min(gh, top + min(strip, end - at))
            _project(
                pictures[picture], top, bottom, gh, gw, level, *map(tuple, taps), periodic, scale, offset,
                weights, first, y,
            )  # fmt: skip
            finite.append(_round(y, out[picture], top, bottom, *limits))
            at += bottom - top

    run_threads(run, cut_rows(b * gh, x.numel()))
    if not all(finite):
        raise ValueError("latents must be finite; found NaN or infinity in the signal")
    return integers


@compiled(**OPTIONS)
def _project(  # type: ignore[no-untyped-def]
    x, top, bottom, gh, gw, level, lo, hi, periodic, scale, offset, weights, bias, y
):
    """Projections of block rows [top, bottom) of a picture, at y[row]."""
    s, bands = workspace(gw, level), np.zeros((2 << level, y.shape[2]), np.float32)
    for row in range(bottom - top):
        for m in range(y.shape[1]):
            y[row, m] = bias[m] if m < len(bias) else np.float32(0)
    channels = np.empty((0, 0), np.int64)
    for plane in range(len(x)):
        stream(
            x[plane], top, bottom, gh, gw, level, lo, hi, periodic, scale, offset,
            channels, s, bands, weights[plane], y,
        )  # fmt: skip


@compiled(**OPTIONS)
def _round(y, out, top, bottom, least, most):  # type: ignore[no-untyped-def]
    """Round to nearest, of a tie to the even integer, and saturate; whether all are finite."""
    low, high, steps = np.float32(least), np.float32(most), np.float32(STEPS)
    for row in range(bottom - top):
        for m in range(len(out)):
            source, target, largest = y[row, m], out[m, top + row], np.int32(0)
            for bits in source.view(np.int32)[: len(target)]:  # order of magnitudes as integers, NaN above all
                largest = max(largest, bits & np.int32(0x7FFFFFFF))
            if largest >= INFINITY:
                return False
            if largest < SMALL:
                for k in range(uintp(len(target))):
                    target[k] = np.int32(min(max((source[k] + steps) - steps, low), high))
            else:
                for k in range(len(target)):
                    target[k] = np.int32(min(max(np.rint(np.float64(source[k])), np.float64(least)), np.float64(most)))
    return True
