from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from codomain.kernels.vq import lookup, nearest_code, residual_codes, search_reference, segment_sums

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def brute_force(x: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """By another order of sums than ours."""
    return torch.cat([(rows[:, None] - codebook.double()).square().sum(2).argmin(1) for rows in x.double().split(16)])


@pytest.mark.parametrize(
    ("d", "k", "mean", "std"), [(64, 4096, 0, 1), (64, 4096, 5, 1), (8, 8192, 0, 1), (64, 4096, 20, 0.1)]
)
def test_no_index_is_wrong(d: int, k: int, mean: float, std: float) -> None:
    """The distributions on which float32 expansions of the distance are wrong for up to a tenth of the vectors."""
    x, codebook = torch.randn(300, d) * std + mean, torch.randn(k, d) * std + mean
    assert torch.equal(nearest_code(x, codebook), brute_force(x, codebook))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (5, 3, 7), (97, 17, 100), (200, 33, 16), (7, 130, 1000)])
def test_equals_the_definition(n: int, d: int, k: int, dtype: torch.dtype, metric: str) -> None:
    x, codebook = torch.randn(n, d).to(dtype), torch.randn(k, d).to(dtype)
    result, (codes, _, error) = lookup(x, codebook, metric), search_reference(x, codebook[None, None], metric)
    assert torch.equal(result.codes, codes[:, 0, 0])
    assert torch.equal(result.codes, nearest_code(x, codebook, metric))
    assert torch.equal(result.x_hat, codebook[result.codes].to(result.x_hat.dtype))
    assert torch.allclose(result.error, error, rtol=1e-6 if error.dtype == torch.float32 else 1e-14)
    assert torch.equal(result.counts, result.codes.bincount(minlength=k))
    assert result.x_hat.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1e25, 1e37])
def test_any_magnitude(scale: float) -> None:
    x, codebook = torch.randn(50, 9) * scale, torch.randn(70, 9) * scale
    assert torch.equal(nearest_code(x, codebook), brute_force(x, codebook))
    assert torch.equal(
        nearest_code(x, codebook, "cosine"), search_reference(x, codebook[None, None], "cosine")[0].view(-1)
    )
    far = torch.randn(50, 9) * 1e38  # its distances to all codes round to one float32
    assert torch.equal(nearest_code(far, codebook / scale), brute_force(far, codebook / scale))


def test_magnitudes_that_only_float64_holds() -> None:
    x = torch.tensor([[1e200, 0.0], [1e-200, 0.0], [3.0, 4.0]], dtype=torch.float64)
    codebook = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e200, 0.0]], dtype=torch.float64)
    assert nearest_code(x, codebook).tolist() == [2, 1, 0]


def test_ties_go_to_the_lowest_index() -> None:
    codebook = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).repeat(9, 1)
    x = torch.tensor([[0.0, 0.0], [0.0, 3.0], [0.5, 0.5], [1.5, 0.0], [-1.0, -1.0]])
    assert nearest_code(x, codebook).tolist() == [1, 1, 1, 0, 4]
    assert nearest_code(x, codebook, "cosine").tolist() == [0, 1, 0, 0, 4]
    equal = torch.ones(1000, 5)
    assert nearest_code(torch.randn(300, 5), equal).eq(0).all()


def test_what_is_not_finite() -> None:
    """Such a vector gets code 0; such a code is never chosen, unless there is no other."""
    x, codebook = torch.randn(40, 6), torch.randn(30, 6)
    x[3, 2], x[4, 0], x[5] = torch.nan, torch.inf, -torch.inf
    codebook[0, 1], codebook[7, 5], codebook[12] = torch.nan, torch.inf, -torch.inf
    finite = [i for i in range(30) if i not in (0, 7, 12)]
    for metric in ("euclidean", "cosine"):
        codes = nearest_code(x, codebook, metric)
        assert codes[3:6].tolist() == [0, 0, 0]
        good = [i for i in range(40) if i not in (3, 4, 5)]
        assert codes[good].tolist() == [finite[j] for j in nearest_code(x[good], codebook[finite], metric)]
        assert nearest_code(x, torch.full((3, 6), torch.nan), metric).eq(0).all()
    assert lookup(x, codebook).error[3:6].isfinite().sum() == 0


def test_cosine_of_a_zero_code_is_zero() -> None:
    codebook = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [-1.0, -1.0]])
    assert nearest_code(torch.tensor([[1.0, 0.0], [-1.0, -1.0], [0.0, 0.0]]), codebook, "cosine").tolist() == [1, 2, 0]


@pytest.mark.parametrize("make", [
    lambda x: x.T.contiguous().T, lambda x: torch.stack((x, x), 2)[:, :, 1], lambda x: x.flip(0).flip(0),
    lambda x: x.clone().requires_grad_(),
])  # fmt: skip
def test_strides(make: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x, codebook = torch.randn(60, 12), torch.randn(40, 12)
    assert torch.equal(nearest_code(make(x), make(codebook)), nearest_code(x, codebook))
    assert torch.equal(residual_codes(make(x), make(codebook)[None])[1], residual_codes(x, codebook[None])[1])
    codes = torch.randint(0, 9, (60, 2))
    assert torch.equal(segment_sums(make(x), codes[:, 1], 9)[0], segment_sums(x, codes[:, 1].contiguous(), 9)[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("g", "s", "k", "d", "n"), [(1, 4, 50, 16, 300), (3, 2, 33, 5, 41), (2, 3, 7, 1, 20)])
def test_residual_stages_and_groups(g: int, s: int, k: int, d: int, n: int, dtype: torch.dtype) -> None:
    x = torch.randn(n, g * d).to(dtype)
    books = (torch.randn(g, s, k, d) * 0.7 ** torch.arange(s)[:, None, None]).to(dtype)
    codes, x_hat = residual_codes(x, books)
    expected = search_reference(x, books)
    assert torch.equal(codes, expected[0])
    assert torch.equal(x_hat, expected[1])
    one = residual_codes(x[:, :d], books[0])
    assert torch.equal(one.codes, codes[:, 0])
    assert torch.equal(one.x_hat, x_hat[:, :d])


def test_empty_input() -> None:
    x, codebook = torch.zeros(0, 4), torch.randn(5, 4)
    assert nearest_code(x, codebook).shape == (0,)
    assert [tuple(t.shape) for t in lookup(x, codebook)] == [(0,), (0, 4), (0,), (5,)]
    assert [tuple(t.shape) for t in residual_codes(x, codebook.expand(2, 3, 5, 4)[:, :, :, :2])] == [(0, 2, 3), (0, 4)]
    assert [t.sum() for t in segment_sums(x, torch.zeros(0, dtype=torch.int64), 3)] == [0, 0]
    assert [tuple(t.shape) for t in segment_sums(x, torch.zeros(0, dtype=torch.int64), 0)] == [(0, 4), (0,)]


def test_segment_sums_are_in_float64() -> None:
    x = torch.tensor([[1e8], [1.0], [-1e8], [1.0], [7.0]])
    sums, counts = segment_sums(x, torch.tensor([2, 2, 2, 2, 0], dtype=torch.int32), 4)
    assert sums.view(-1).tolist() == [7.0, 0.0, 2.0, 0.0]
    assert counts.tolist() == [1, 0, 4, 0]
    assert segment_sums(x.half(), torch.zeros(5, dtype=torch.uint8), 1)[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x, c: nearest_code(x[0], c), r"found \(4,\) and \(5, 4\)"),
        (lambda x, c: nearest_code(x[:, :3], c), r"found \(3, 3\) and \(5, 4\)"),
        (lambda x, c: nearest_code(x, c[0]), r"found \(3, 4\) and \(4,\)"),
        (lambda x, c: nearest_code(x, c[:0]), r"found \(0, 4\)"),
        (lambda x, c: nearest_code(x[:, :0], c[:, :0]), r"found \(5, 0\)"),
        (lambda x, c: nearest_code(x.long(), c), "found torch.int64 and torch.float32"),
        (lambda x, c: nearest_code(x, c.cfloat()), "found torch.float32 and torch.complex64"),
        (lambda x, c: nearest_code(x, c.to("meta")), "found cpu and meta"),
        (lambda x, c: nearest_code(x, c, "manhattan"), "found 'manhattan'"),
        (lambda x, c: nearest_code(x, c[None]), r"found \(3, 4\) and \(1, 5, 4\)"),
        (lambda x, c: residual_codes(x, c), r"\(s, k, d\) or \(g, s, k, d\); found \(5, 4\)"),
        (lambda x, c: residual_codes(x, c.expand(2, 1, 5, 4)), r"\(n, 2 d\).*found \(3, 4\)"),
        (lambda x, c: residual_codes(x, c.expand(0, 5, 4)), r"found \(0, 5, 4\)"),
        (lambda x, c: segment_sums(x, torch.tensor([0, 1]), 3), r"found \(3, 4\) and \(2,\)"),
        (lambda x, c: segment_sums(x, torch.tensor([0, 1, 3]), 3), r"in \[0, 3\); found 0 to 3"),
        (lambda x, c: segment_sums(x, torch.tensor([0, 1, -1]), 3), "found -1 to 1"),
        (lambda x, c: segment_sums(x, torch.zeros(3), 3), "integer one; found torch.float32 and torch.float32"),
    ],
)
def test_errors_say_what_was_found(call: Callable[[torch.Tensor, torch.Tensor], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(torch.zeros(3, 4), torch.zeros(5, 4))
