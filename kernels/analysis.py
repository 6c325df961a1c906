"""Analysis of a picture in one pass: pixels to wavelet packets, a 1x1 projection, integers.

    x (uint8, uint16, float32) --wpt--> packets --weight, bias--> round --> int8, int16, int32

The definition is `analyse_reference`. Neither path in one pass holds the picture, nor its packets, in float32:
on a GPU a tile of them, on a CPU a few rows and the projections of one strip. The result does not depend on threads or
strips.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from codomain.kernels.filters import halves
from codomain.kernels.wpt import Mode, _check, wpt_reference
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

INTEGERS = (torch.int8, torch.int16, torch.int32)
FULL_SCALE = {torch.uint8: 255, torch.uint16: 65535}


def analyse(
    x: Shaped[Tensor, "b c h w"],
    weight: Float[Tensor, "d bands"],
    bias: Float[Tensor, " d"],
    level: int,
    wavelet: str = "bior4.4",
    mode: Mode = "symmetric",
    dtype: torch.dtype = torch.int32,
) -> Integer[Tensor, "b d gh gw"]:
    """Return ``round(weight @ wpt(x) + bias)``, for inference.

    Args:
        x: float32 samples, or uint8 or uint16 ones that are scaled to [-1, 1]; a side that is no multiple of
            ``2**level`` is extended by its last sample. It may be empty, as the result is then.
        weight, bias: of the projection, divided by the quantization steps; ``bands`` is ``c * 4**level``.
        level, wavelet, mode: as for `wpt`.
        dtype: int8, int16 or int32; values beyond it, or beyond +-2**30, saturate.

    Raises:
        ValueError: for arguments of another shape or dtype; if a latent is NaN or infinite.
    """
    _check_analysis(x, weight, bias, level, wavelet, mode, dtype)
    if x.numel() == 0:
        return torch.empty(
            len(x), len(weight), *(-(-n // (1 << level)) for n in x.shape[2:]), dtype=dtype, device=x.device
        )
    numbers = (dtype, limits(dtype), scaling(x.dtype))
    if takes(x, len(weight), level, wavelet):
        if x.is_cuda:
            from codomain.kernels import analysis_triton

            return analysis_triton.analyse(x, weight, bias, level, wavelet, mode, *numbers)
        from codomain.kernels import analysis_numba

        periodic = mode == "periodization"
        return analysis_numba.analyse(x, weight, bias, level, halves(wavelet)[0], periodic, *numbers)
    return analyse_reference(x, weight, bias, level, wavelet, mode, dtype)


def analyse_reference(
    x: Shaped[Tensor, "b c h w"],
    weight: Float[Tensor, "d bands"],
    bias: Float[Tensor, " d"],
    level: int,
    wavelet: str = "bior4.4",
    mode: Mode = "symmetric",
    dtype: torch.dtype = torch.int32,
) -> Integer[Tensor, "b d gh gw"]:
    """The definition, on float tensors of the whole picture; float64 inside."""
    samples = to_float(x).double()
    short = [-n % (1 << level) for n in x.shape[2:]]
    samples = F.pad(samples, (0, short[1], 0, short[0]), mode="replicate")
    y = torch.einsum("db,nbhw->ndhw", weight.double(), wpt_reference(samples, level, wavelet, mode))
    return round_to(y + bias.double()[:, None, None], dtype)


def to_float(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Samples as float32: those of uint8 and uint16 scaled to [-1, 1]."""
    if x.dtype == torch.float32:
        return x
    scale, offset = scaling(x.dtype)
    return x.to(torch.float32).mul_(scale).add_(offset)


def from_float(x: Float[Tensor, "*shape"], dtype: torch.dtype) -> Shaped[Tensor, "*shape"]:
    """Samples of a type from float32 ones, which are clamped to [-1, 1]: the inverse of `to_float`."""
    x = x.clamp(-1, 1)
    return x if dtype == torch.float32 else x.add_(1).mul_(FULL_SCALE[dtype] / 2).round_().to(dtype)


def scaling(dtype: torch.dtype) -> tuple[float, float]:
    """Factor and offset that bring samples of a type to [-1, 1]."""
    return (1.0, 0.0) if dtype == torch.float32 else (2 / FULL_SCALE[dtype], -1.0)


def round_to(y: Float[Tensor, "*shape"], dtype: torch.dtype = torch.int32) -> Integer[Tensor, "*shape"]:
    """Round to the nearest integer, of a tie the even one; what `dtype` or +-2**30 does not hold saturates.

    Raises:
        ValueError: if one is NaN or infinite.
    """
    if not torch.isfinite(y).all():
        raise ValueError("latents must be finite; found NaN or infinity in the signal")
    return y.round().clamp(*limits(dtype)).to(dtype)


def limits(dtype: torch.dtype) -> tuple[int, int]:
    """Least and greatest integer that latents of a type take."""
    return max(torch.iinfo(dtype).min, -(2**30)), min(torch.iinfo(dtype).max, 2**30)


def takes(x: Shaped[Tensor, "b c *space"], d: int, level: int, wavelet: str) -> bool:
    """Whether such a signal becomes ``d`` latents in one pass, where it lies."""
    if x.dim() != 4 or x.dtype not in (torch.float32, *FULL_SCALE):
        return False
    if x.is_cuda:
        from codomain.kernels import analysis_triton

        return analysis_triton.takes(level, wavelet, d)
    return x.device.type == "cpu" and level > 0 and wavelet == "bior4.4"


def _check_analysis(
    x: Tensor, weight: Tensor, bias: Tensor, level: int, wavelet: str, mode: str, dtype: torch.dtype
) -> None:
    if x.dtype not in (torch.float32, *FULL_SCALE):
        raise ValueError(f"expected float32, uint8 or uint16 samples; found {x.dtype}")
    if x.dim() != 4 or x.shape[1] == 0:
        raise ValueError(f"expected a picture (b, c, h, w) of one channel or more; found {tuple(x.shape)}")
    if dtype not in INTEGERS:
        raise ValueError(f"dtype is torch.int8, torch.int16 or torch.int32; found {dtype}")
    _check(x.new_empty(1, 1, 1, 1, dtype=torch.float32), level, wavelet, mode)
    bands = x.shape[1] << (2 * level)
    if weight.shape != (len(weight), bands) or bias.shape != (len(weight),):
        raise ValueError(f"expected weight (d, {bands}), bias (d,); found {tuple(weight.shape)}, {tuple(bias.shape)}")
