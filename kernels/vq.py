"""Code lookup: the nearest code of every vector, exact, and what quantizers make of it.

    code(x) = argmin_j |x - c_j|^2          euclidean
    code(x) = argmax_j x . c_j / |c_j|      cosine; a zero code has similarity 0

Distances are those of float64 arithmetic; ties go to the lowest index. (Float64 sums of another order, as of another
device, may break a tie that is exact on paper.)
A vector with NaN or infinity gets code 0. A code with NaN or infinity is never chosen while there is a finite one.

Several codebooks quantize by turns what the ones before left over (residual stages), and several groups of components
each have their own (groups):

    r_0 = x,   code_s = nearest to r_s in codebook s,   r_{s+1} = r_s - c_s[code_s],   x_hat = c_0 + c_1 + ...

Nothing here is differentiable: a bottleneck passes gradients around the lookup.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

Metric = Literal["euclidean", "cosine"]
TILE = 1 << 20  # distances that the reference holds at once


class Lookup(NamedTuple):
    """What one pass over the vectors gives."""

    codes: Int64[Tensor, " n"]
    x_hat: Float[Tensor, "n d"]  # the chosen codes
    error: Float[Tensor, " n"]  # |x - x_hat|^2 of every vector
    counts: Int64[Tensor, " k"]  # vectors of every code


class ResidualLookup(NamedTuple):
    """What one pass over the vectors gives, through all stages of all groups."""

    codes: Int64[Tensor, "n *g s"]
    x_hat: Float[Tensor, "n gd"]  # the sums of the chosen codes


def nearest_code(
    x: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], metric: Metric = "euclidean"
) -> Int64[Tensor, " n"]:
    """Return the index of the nearest code of every vector.

    Args:
        x: vectors; any float dtype, any strides.
        codebook: on the same device; its dtype may be another.
        metric: "euclidean" or "cosine".

    Raises:
        ValueError: for shapes, dtypes, devices, a metric or an empty codebook that make no lookup.
    """
    _check(x, codebook, metric)
    return _search(x, codebook[None, None], metric, wanted=False)[0][:, 0, 0]


def lookup(x: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], metric: Metric = "euclidean") -> Lookup:
    """Return codes, quantized vectors, squared errors and counts, in one pass.

    ``x_hat`` and ``error`` are float32, or float64 where an argument is.

    Raises:
        ValueError: as `nearest_code`.
    """
    _check(x, codebook, metric)
    codes, x_hat, error, counts = _search(x, codebook[None, None], metric)
    return Lookup(codes[:, 0, 0], x_hat, error, counts[0, 0])


def residual_codes(x: Float[Tensor, "n gd"], codebooks: Float[Tensor, "*g s k d"]) -> ResidualLookup:
    """Quantize in residual stages; with groups, every group of components by codebooks of its own.

    Args:
        x: vectors of g * d components; group i has those from ``i * d`` to ``(i + 1) * d``.
        codebooks: (s, k, d), or (g, s, k, d) for groups.

    Returns:
        codes (n, s) or (n, g, s), and ``x_hat``, float32, or float64 where an argument is; residuals are of that
        dtype too.

    Raises:
        ValueError: as `nearest_code`.
    """
    if codebooks.dim() not in (3, 4):
        raise ValueError(f"codebooks must be (s, k, d) or (g, s, k, d); found {tuple(codebooks.shape)}")
    books = codebooks if codebooks.dim() == 4 else codebooks[None]
    _check(x, codebooks, "euclidean", len(books))
    codes, x_hat, *_ = _search(x, books, "euclidean")
    return ResidualLookup(codes if codebooks.dim() == 4 else codes[:, 0], x_hat)


def segment_sums(
    x: Float[Tensor, "n d"], codes: Integer[Tensor, " n"], k: int
) -> tuple[Float[Tensor, "k d"], Int64[Tensor, " k"]]:
    """Return the sum and the number of the vectors of every code: the statistics of k-means and of moving averages.

    Vectors of a code are added in float64, in a fixed order: the same bits on every run and with any number of
    threads. On a GPU, which would have to wait for a look at them, codes outside [0, k) are left out.

    Returns:
        sums, float32 or float64 as ``x``, and counts.

    Raises:
        ValueError: if ``codes`` do not fit ``x`` or ``k``.
    """
    if x.dim() != 2 or codes.shape != x.shape[:1]:
        raise ValueError(f"x must be (n, d) and codes (n,); found {tuple(x.shape)} and {tuple(codes.shape)}")
    if not x.is_floating_point() or codes.is_floating_point() or codes.dtype in (torch.bool, torch.complex64):
        raise ValueError(f"x must be of a float dtype and codes of an integer one; found {x.dtype} and {codes.dtype}")
    if x.device != codes.device:
        raise ValueError(f"x and codes must be on one device; found {x.device} and {codes.device}")
    x = x.detach()
    if x.is_cuda:
        from codomain.kernels import vq_triton

        return vq_triton.segment_sums(x, codes, k)
    if len(codes) and not (int(codes.min()) >= 0 and int(codes.max()) < k):
        raise ValueError(f"codes must be in [0, {k}); found {int(codes.min())} to {int(codes.max())}")
    from codomain.kernels import vq_numba

    vectors = x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()
    sums, counts = vq_numba.segment_sums(vectors.numpy(), codes.long().contiguous().numpy(), k)
    return torch.from_numpy(sums), torch.from_numpy(counts)


def search_reference(
    x: Float[Tensor, "n gd"], codebooks: Float[Tensor, "g s k d"], metric: Metric = "euclidean"
) -> tuple[Int64[Tensor, "n g s"], Float[Tensor, "n gd"], Float[Tensor, " n"]]:
    """Return codes, quantized vectors and squared errors, straight from the definition; any device."""
    g, stages, k, d = codebooks.shape
    dtype = torch.promote_types(torch.promote_types(x.dtype, codebooks.dtype), torch.float32)
    x, books = x.detach().to(dtype), codebooks.detach().to(dtype)
    codes = torch.empty(len(x), g, stages, dtype=torch.int64, device=x.device)
    x_hat = torch.zeros_like(x)
    for i in range(g):
        part = slice(i * d, (i + 1) * d)
        for rows in torch.arange(len(x), device=x.device).split(max(1, TILE // k)):
            r = x[rows, part]
            for s in range(stages):
                codes[rows, i, s] = _distances(r, books[i, s], metric).argmin(1)  # the first of equals
                chosen = books[i, s][codes[rows, i, s]]
                r = r - chosen
                x_hat[rows, part] += chosen
    return codes, x_hat, (x.double() - x_hat.double()).square().sum(1).to(dtype)


def _distances(x: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], metric: Metric) -> Float[Tensor, "n k"]:
    """Squared distances, or negative cosines times \\|x\\|, in float64; infinity for what is not comparable."""
    x, c = x.double(), codebook.double()
    total, norm = x.new_zeros(len(x), len(c)), c.new_zeros(len(c))
    for a, b in zip(x.T, c.T, strict=True):
        if metric == "euclidean":
            total += (a[:, None] - b).square()
        else:
            total -= a[:, None] * b
            norm += b.square()
    if metric == "cosine":
        total = total / torch.where(norm > 0, norm.sqrt(), 1.0)
    comparable = torch.isfinite(x).all(1)[:, None] & torch.isfinite(c).all(1) & ~total.isnan()
    return torch.where(comparable, total, torch.inf)


def _search(
    x: Tensor, codebooks: Float[Tensor, "g s k d"], metric: Metric, wanted: bool = True
) -> tuple[Int64[Tensor, "n g s"], Float[Tensor, "n gd"], Float[Tensor, " n"], Int64[Tensor, "g s k"]]:
    """`search_reference`, fast; quantized vectors, errors and counts only if they are wanted."""
    dtype = torch.promote_types(torch.promote_types(x.dtype, codebooks.dtype), torch.float32)
    x, books = x.detach(), codebooks.detach().to(dtype).contiguous()
    if x.is_cuda:
        from codomain.kernels import vq_triton

        return vq_triton.search(x, books, metric == "cosine", wanted)
    from codomain.kernels import vq_numba

    found = vq_numba.search(x.to(dtype).contiguous().numpy(), books.numpy(), metric == "cosine", wanted)
    codes, x_hat, error, counts = (torch.from_numpy(array) for array in found)
    return codes, x_hat, error, counts


def _check(x: Tensor, codebook: Tensor, metric: str, groups: int = 0) -> None:
    """Check for one codebook, or the stages of ``groups``."""
    *_, k, d = codebook.shape if codebook.dim() > 1 else (0, 0)
    if x.dim() != 2 or (groups == 0 and codebook.dim() != 2) or x.shape[1] != max(groups, 1) * d:
        shape = f"(n, {'d' if groups < 2 else f'{groups} d'}) and the codebook {'(..., k, d)' if groups else '(k, d)'}"
        raise ValueError(f"x must be {shape}; found {tuple(x.shape)} and {tuple(codebook.shape)}")
    if 0 in codebook.shape or k >= 1 << 31:
        raise ValueError(
            f"a codebook holds 1 to 2**31 - 1 codes of one component or more; found {tuple(codebook.shape)}"
        )
    if not (x.is_floating_point() and codebook.is_floating_point()):
        raise ValueError(f"x and codebook must be of float dtypes; found {x.dtype} and {codebook.dtype}")
    if x.device != codebook.device:
        raise ValueError(f"x and codebook must be on one device; found {x.device} and {codebook.device}")
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric must be 'euclidean' or 'cosine'; found {metric!r}")
