"""Wavelet packet transform: every band of every level is split again, a full tree.

One level filters an axis with a low- and a high-pass and keeps every second sample. With the two
halves interleaved, ``z[2k] = low[k]``, ``z[2k + 1] = high[k]``, analysis and synthesis are

    z[2k + i] = sum_j dec_i[j] x[E(2k + L/2 - j)]           i = 0 low, 1 high
    x[n]      = sum_k sum_i rec_i[n - 2k + L/2 - 1] z[E(2k + i)]

where ``E`` extends indices past the ends. "periodization" wraps around (``n mod N``) and equals
PyWavelets. "symmetric" mirrors at the end samples, at every level (whole-sample symmetric extension of
JPEG 2000, ISO/IEC 15444-1 annex F.4): no picture edge leaks into the opposite one. It is exactly
invertible for odd-length symmetric filter pairs (bior2.2, bior4.4, ...).

Band order is "natural": channel ``((c * F + f1) * F + f2) ... `` with ``F = 2**ndim``; inside one level
the bands stand in PyWavelets' order, 2-D: aa, da (detail along h), ad (along w), dd.

Up to three levels of one axis are one linear map. `wpt` reads that map off `wpt_reference`, and applies it
as a single strided convolution per axis plus a small dense matrix at either end. Signals of one axis or two have
kernels of their own, on a CPU outside of training, and on a GPU.

A sample that is not finite makes the packets that depend on it NaN, or infinite; of the others those that lie near, as
far as a tile of the convolution or of the kernel reaches.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import pywt
import torch
import torch.nn.functional as F
from codomain.kernels.filters import check_wavelet, filters, halves
from jaxtyping import Float, Shaped
from torch import Tensor

Mode = Literal["periodization", "symmetric"]
HALF = (torch.float16, torch.bfloat16)
STEP = 3  # levels in one convolution: its taps double with every level


def wpt(
    x: Shaped[Tensor, "b c *space"], level: int, wavelet: str = "bior4.4", mode: Mode = "symmetric"
) -> Float[Tensor, "b d *grid"]:
    """Split a signal into wavelet packets; differentiable. Float16 and bfloat16 are computed in float32.

    Args:
        x: float signal with 1, 2 or 3 axes after batch and channel; each a multiple of ``2**level``.
        level: how often each axis is halved.
        wavelet: a PyWavelets name.
        mode: "periodization" or "symmetric".

    Returns:
        ``(b, c * 2**(level * ndim), *space / 2**level)``.

    Raises:
        ValueError: for a side, level, mode, wavelet or dtype that the transform does not admit.
    """
    _check(x, level, wavelet, mode)
    side = 1 << level
    if 0 in x.shape or any(n % side for n in x.shape[2:]):
        raise ValueError(f"level={level} needs sides divisible by {side}; x is {tuple(x.shape)}")
    if level == 0:
        return x
    if _is_for_gpu(x, len(x) * x.shape[1], level, wavelet):
        from codomain.kernels import wpt_triton

        return wpt_triton.analyse(x, level, wavelet, mode)
    if x.dtype in HALF:
        return wpt(x.float(), level, wavelet, mode).to(x.dtype)
    if _is_compiled(x, wavelet):
        from codomain.kernels import wpt_numba, wpt_rows_numba

        analyse = wpt_numba.analyse if x.dim() == 4 else wpt_rows_numba.analyse
        return analyse(x, level, halves(wavelet)[0], mode == "periodization")
    return wpt_by_convolution(x, level, wavelet, mode)


def wpt_by_convolution(
    x: Shaped[Tensor, "b c *space"], level: int, wavelet: str = "bior4.4", mode: Mode = "symmetric"
) -> Float[Tensor, "b d *grid"]:
    """`wpt` in torch alone: on any device, differentiable; the arguments are not checked."""
    if level > STEP:
        return wpt_by_convolution(wpt_by_convolution(x, STEP, wavelet, mode), level - STEP, wavelet, mode)
    ndim, side = x.dim() - 2, 1 << level
    batch, channels = x.shape[:2]
    for axis in range(ndim):
        before, (n, *after) = x.shape[2 : 2 + axis], x.shape[2 + axis :]
        bands = _analyse(x.reshape(-1, prod(before), n, prod(after)), level, wavelet, mode)
        x = bands.reshape(batch, -1, *before, n // side, *after)
    return _to_natural(x, channels, level, ndim)


def iwpt(
    X: Shaped[Tensor, "b d *grid"], level: int, wavelet: str = "bior4.4", mode: Mode = "symmetric"
) -> Float[Tensor, "b c *space"]:
    """Rebuild the signal from wavelet packets: the exact inverse of `wpt` with the same arguments.

    Raises:
        ValueError: as `wpt`; also when the channels are no multiple of ``2**(level * ndim)``.
    """
    _check(X, level, wavelet, mode)
    ndim, side = X.dim() - 2, 1 << level
    if X.shape[1] % side**ndim or 0 in X.shape:
        raise ValueError(
            f"level={level} in {ndim} dimensions needs a multiple of {side**ndim} channels; X is {tuple(X.shape)}"
        )
    if level == 0:
        return X
    if _is_for_gpu(X, len(X) * X.shape[1] >> level, level, wavelet):
        from codomain.kernels import wpt_triton

        return wpt_triton.synthesise(X, level, wavelet, mode)
    if X.dtype in HALF:
        return iwpt(X.float(), level, wavelet, mode).to(X.dtype)
    if _is_compiled(X, wavelet):
        from codomain.kernels import wpt_numba, wpt_rows_numba

        synthesise = wpt_numba.synthesise if X.dim() == 4 else wpt_rows_numba.synthesise
        return synthesise(X, level, halves(wavelet)[1], mode == "periodization")
    return iwpt_by_convolution(X, level, wavelet, mode)


def iwpt_by_convolution(
    X: Shaped[Tensor, "b d *grid"], level: int, wavelet: str = "bior4.4", mode: Mode = "symmetric"
) -> Float[Tensor, "b c *space"]:
    """`iwpt` in torch alone, as `wpt_by_convolution`."""
    if level > STEP:
        return iwpt_by_convolution(iwpt_by_convolution(X, level - STEP, wavelet, mode), STEP, wavelet, mode)
    ndim, side = X.dim() - 2, 1 << level
    batch, channels = X.shape[0], X.shape[1] // side**ndim
    x = _from_natural(X, channels, level, ndim)
    for axis in reversed(range(ndim)):
        before, (n, *after) = x.shape[2 : 2 + axis], x.shape[2 + axis :]
        bands = x.reshape(-1, side, prod(before), n, prod(after))
        x = _synthesise(bands, level, wavelet, mode).reshape(batch, -1, *before, n * side, *after)
    return x


def wpt_reference(
    x: Float[Tensor, "b c *space"], level: int, wavelet: str = "bior4.4", mode: Mode = "symmetric"
) -> Float[Tensor, "b d *grid"]:
    """The definition: level by level, axis by axis, straight from the formula above."""
    _check(x, level, wavelet, mode)
    lo, hi = (torch.tensor(f, dtype=x.dtype, device=x.device) for f in filters(wavelet)[:2])
    for _ in range(level):
        b, c = x.shape[:2]
        bands = [x]
        for axis in range(2, x.dim()):
            n, taps = x.shape[axis], len(lo)
            index = _extend(torch.arange(0, n, 2)[:, None] + taps // 2 - torch.arange(taps), n, mode)
            windows = [v.movedim(axis, -1)[..., index.to(x.device)] for v in bands]
            # the axis filtered last varies slowest: aa, da, ad, dd
            bands = [(w @ f).movedim(-1, axis) for f in (lo, hi) for w in windows]
        x = torch.stack(bands, dim=2).reshape(b, c * len(bands), *bands[0].shape[2:])
    return x


def iwpt_reference(
    X: Float[Tensor, "b d *grid"], level: int, wavelet: str = "bior4.4", mode: Mode = "symmetric"
) -> Float[Tensor, "b c *space"]:
    """The inverse of `wpt_reference`, from the formula above."""
    _check(X, level, wavelet, mode)
    rec = [torch.tensor(f, dtype=X.dtype, device=X.device) for f in filters(wavelet)[2:]]
    taps, ndim = len(rec[0]), X.dim() - 2
    for _ in range(level):
        b, c = X.shape[0], X.shape[1] >> ndim
        bands = list(X.reshape(b, c, 1 << ndim, *X.shape[2:]).unbind(2))
        for axis in reversed(range(2, X.dim())):
            half, n = len(bands) // 2, 2 * X.shape[axis]
            merged = []
            for low, high in zip(bands[:half], bands[half:], strict=True):
                z = torch.stack((low, high), dim=axis + 1).flatten(axis, axis + 1).movedim(axis, -1)
                # tap t = n - 2k + L/2 - 1 has the parity of n + L/2 - 1
                out = torch.zeros_like(z)
                for parity in (0, 1):
                    m = torch.arange(parity, n, 2)[:, None]
                    t = torch.arange((parity + taps // 2 - 1) % 2, taps, 2)
                    even = m + taps // 2 - 1 - t  # 2k
                    for i in (0, 1):
                        window = z[..., _extend(even + i, n, mode).to(z.device)]
                        out[..., parity::2] += window @ rec[i][t]
                merged.append(out.movedim(-1, axis))
            bands = merged
        X = bands[0]
    return X


def reach(level: int, wavelet: str = "bior4.4") -> int:
    """Blocks of ``2**level`` samples by which a part of a signal must be extended on each side.

    Then `wpt` and `iwpt` of the part agree, off the extension, with those of the whole.
    """
    if level > STEP:
        return reach(level - STEP, wavelet) + -(-reach(STEP, wavelet) // (1 << (level - STEP)))
    return max(len(_axis_map(level, wavelet, "symmetric", inverse).left) >> level for inverse in (False, True))


def _extend(index: Tensor, n: int, mode: Mode) -> Tensor:
    """Map indices outside ``[0, n)`` inside; both maps keep parity, n being even."""
    if mode == "periodization":
        return index % n
    index = index % (2 * n - 2)
    return torch.where(index < n, index, 2 * n - 2 - index)


@cache
def natural(level: int) -> np.ndarray:
    """Channel of (band along h, band along w): their bits interleaved, w's the higher one of each level."""
    v, h = np.meshgrid(np.arange(1 << level), np.arange(1 << level), indexing="ij")
    index = np.zeros_like(v)
    for bit in range(level):
        index |= (v >> bit & 1) << (2 * bit) | (h >> bit & 1) << (2 * bit + 1)
    return index


class _AxisMap(NamedTuple):
    """One axis of the transform as a banded matrix: equal blocks inside, dense ends."""

    kernel: np.ndarray  # analysis (bands, taps), synthesis (samples, bands, blocks)
    first: int  # offset of the kernel's first tap (in samples) or block
    left: np.ndarray  # (edge outputs, inputs)
    right: np.ndarray


@cache
def _matrix(blocks: int, level: int, wavelet: str, mode: Mode, inverse: bool) -> np.ndarray:
    """The whole map of one axis, (outputs, inputs), both ordered block by block: (block, band or sample)."""
    side = 1 << level
    eye = torch.eye(blocks * side, dtype=torch.float64)
    if inverse:  # input (block, band) -> one packet signal per row
        x = iwpt_reference(eye.reshape(-1, blocks, side).movedim(2, 1), level, wavelet, mode)
        return x[:, 0].T.numpy()
    X = wpt_reference(eye[:, None], level, wavelet, mode)  # (input, band, block)
    return X.permute(2, 1, 0).reshape(blocks * side, -1).numpy()


@cache
def _axis_map(level: int, wavelet: str, mode: Mode, inverse: bool) -> _AxisMap:
    side = 1 << level
    reach = pywt.Wavelet(wavelet).dec_len // 2 + 1  # blocks; the support is (2**level - 1) * dec_len samples
    blocks = 4 * reach + 1
    matrix = _matrix(blocks, level, wavelet, mode, inverse)
    here = 2 * reach * side
    middle = matrix[here : here + side]
    used = np.flatnonzero(np.abs(middle).max(0) > 1e-14)
    if inverse:
        low, high = used[0] // side, used[-1] // side + 1
        kernel = middle[:, low * side : high * side].reshape(side, high - low, side).transpose(0, 2, 1)
        first = int(low) - 2 * reach
    else:
        kernel, first = middle[:, used[0] : used[-1] + 1], int(used[0]) - here
    rows = matrix.reshape(blocks, side, blocks * side)
    inner = [np.roll(middle, (k - 2 * reach) * side, axis=1) for k in range(blocks)]
    differs = np.flatnonzero(np.abs(rows - inner).max((1, 2)) > 1e-13)
    edge = side * int(np.minimum(differs, blocks - 1 - differs).max(initial=0) + 1)
    return _AxisMap(kernel, first, matrix[:edge, :here], matrix[-edge:, -here:])


@cache
def _constant(
    level: int, wavelet: str, mode: Mode, inverse: bool, part: str, dtype: torch.dtype, device: torch.device
) -> Tensor:
    if part.isdigit():
        array = _matrix(int(part), level, wavelet, mode, inverse)
    else:
        array = getattr(_axis_map(level, wavelet, mode, inverse), part)
    with torch.inference_mode(False):  # a constant first made while coding must also serve training
        return torch.tensor(np.ascontiguousarray(array), dtype=dtype, device=device)


def _analyse(x: Float[Tensor, "p g n q"], level: int, wavelet: str, mode: Mode) -> Float[Tensor, "p side g blocks q"]:
    """Transform axis n; g and q are the axes before and after it."""
    side, blocks = 1 << level, x.shape[2] >> level
    const = (level, wavelet, mode, False)
    axis = _axis_map(*const)

    def dense(matrix: str, part: Tensor) -> Tensor:
        out = _multiply(_constant(*const, matrix, x.dtype, x.device), part)
        bands: Tensor = out.unflatten(2, (-1, side)).movedim(3, 1)
        return bands

    edge, ends = (m // side for m in axis.left.shape)
    if blocks < ends:
        return dense(str(blocks), x)
    kernel = _constant(*const, "kernel", x.dtype, x.device)
    if mode == "periodization":
        margin = ends * side
        x = torch.cat((x[:, :, -margin:], x, x[:, :, :margin]), dim=2)
        start = margin + axis.first
        x = x[:, :, start : start + (blocks - 1) * side + kernel.shape[1]]
        return _convolve(x[:, None], kernel[:, None], stride=side, padding=0)
    # zero padding is wrong in the edge blocks alone, and these are overwritten: no copy of the inside
    out = _convolve(x[:, None], kernel[:, None], stride=side, padding=-axis.first)[:, :, :, :blocks]
    out[:, :, :, :edge] = dense("left", x[:, :, : ends * side])
    out[:, :, :, -edge:] = dense("right", x[:, :, -ends * side :])
    return out


def _synthesise(
    X: Float[Tensor, "p side g blocks q"], level: int, wavelet: str, mode: Mode
) -> Float[Tensor, "p g n q"]:
    side, blocks = X.shape[1], X.shape[3]
    const = (level, wavelet, mode, True)
    axis = _axis_map(*const)

    def dense(matrix: str, part: Tensor) -> Tensor:
        return _multiply(_constant(*const, matrix, X.dtype, X.device), part.movedim(1, 3).flatten(2, 3))

    edge, ends = (m // side for m in axis.left.shape)
    if blocks < ends:
        return dense(str(blocks), X)
    kernel = _constant(*const, "kernel", X.dtype, X.device)
    if mode == "periodization":
        X = torch.cat((X[:, :, :, -ends:], X, X[:, :, :, :ends]), dim=3)
        start = ends + axis.first
        X = X[:, :, :, start : start + blocks + kernel.shape[2] - 1]
        return _convolve(X, kernel, stride=1, padding=0).movedim(1, 3).flatten(2, 3)
    out = _convolve(X, kernel, stride=1, padding=-axis.first)[:, :, :, :blocks]
    out = out.movedim(1, 3).flatten(2, 3)
    out[:, :, : edge * side] = dense("left", X[:, :, :, :ends])
    out[:, :, -edge * side :] = dense("right", X[:, :, :, -ends:])
    return out


def _multiply(matrix: Float[Tensor, "o n"], x: Float[Tensor, "p g n q"]) -> Float[Tensor, "p g o q"]:
    y: Tensor = (x.squeeze(3) @ matrix.T).unsqueeze(3) if x.shape[3] == 1 else matrix @ x
    return y


def _convolve(
    x: Float[Tensor, "p i g n q"], kernel: Float[Tensor, "o i taps"], stride: int, padding: int
) -> Float[Tensor, "p o g m q"]:
    """Convolve along n. A 2-D convolution where g or q is 1 is several times faster than a 3-D one."""
    if x.shape[2] == 1:
        out = F.conv2d(x.squeeze(2), kernel[..., None], stride=(stride, 1), padding=(padding, 0))
        return out.unsqueeze(2)
    if x.shape[4] == 1:
        out = F.conv2d(x.squeeze(4), kernel[..., None, :], stride=(1, stride), padding=(0, padding))
        return out.unsqueeze(4)
    return F.conv3d(x, kernel[:, :, None, :, None], stride=(1, stride, 1), padding=(0, padding, 0))


def _is_for_gpu(x: Tensor, signals: int, level: int, wavelet: str) -> bool:
    """Whether Triton takes it, on a GPU: planes, or enough signals to fill its tiles; filters that fit its window."""
    if not x.is_cuda or x.dim() > 4 or x.dtype == torch.float64:
        return False
    from codomain.kernels import wpt_triton

    filled = x.dim() == 4 or signals >= wpt_triton.TILE
    return filled and bool(wpt_triton.steps(level, wavelet))


def _is_compiled(x: Tensor, wavelet: str) -> bool:
    """Whether the compiled CPU path takes it: one axis or two, outside of training."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not (x.requires_grad and torch.is_grad_enabled())
    return plain and x.dim() < 5 and wavelet == "bior4.4"


def _to_natural(x: Tensor, channels: int, level: int, ndim: int) -> Tensor:
    """Channels (c, bits of axis 0, bits of axis 1, ...) -> (c, level 1, level 2, ...), last axis slowest."""
    if ndim == 1:
        return x
    b, _, *grid = x.shape
    x = x.reshape(b, channels, *[2] * (level * ndim), *grid)
    order = [2 + axis * level + j for j in range(level) for axis in reversed(range(ndim))]
    tail = range(2 + level * ndim, x.dim())
    return x.permute(0, 1, *order, *tail).reshape(b, -1, *grid)


def _from_natural(X: Tensor, channels: int, level: int, ndim: int) -> Tensor:
    if ndim == 1:
        return X
    b, _, *grid = X.shape
    X = X.reshape(b, channels, *[2] * (level * ndim), *grid)
    order = [2 + j * ndim + (ndim - 1 - axis) for axis in range(ndim) for j in range(level)]
    tail = range(2 + level * ndim, X.dim())
    return X.permute(0, 1, *order, *tail).reshape(b, -1, *grid)


def _check(x: Tensor, level: int, wavelet: str, mode: str) -> None:
    if x.dim() not in (3, 4, 5):
        raise ValueError(f"a signal is (b, c, *space) with 1 to 3 axes in space; found {tuple(x.shape)}")
    if x.dtype not in (torch.float32, torch.float64, *HALF):
        raise ValueError(f"expected float16, bfloat16, float32 or float64; found {x.dtype}")
    if not 0 <= level <= 10:
        raise ValueError(f"level is 0 to 10; found {level}")
    if mode not in ("periodization", "symmetric"):
        raise ValueError(f"mode is 'periodization' or 'symmetric'; found {mode!r}")
    check_wavelet(wavelet, mode)
