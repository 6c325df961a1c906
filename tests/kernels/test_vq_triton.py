from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from codomain.kernels import vq, vq_triton
from codomain.kernels.vq import search_reference
from codomain.kernels.vq import segment_sums as segment_sums_cpu
from codomain.kernels.vq_triton import search, segment_sums

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, in the interpreter
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel does not write is NaN, or no code."""
    empty = torch.empty

    def poisoned(*shape: Any, **options: Any) -> torch.Tensor:
        made = empty(*shape, **options)
        return made.fill_(torch.nan if made.is_floating_point() else -(2**40))

    monkeypatch.setattr(torch, "empty", poisoned)


def check(x: torch.Tensor, books: torch.Tensor, cosine: bool = False) -> torch.Tensor:
    """Compare with the definition; return the codes."""
    expected = search_reference(x, books, "cosine" if cosine else "euclidean")
    wide = torch.float64 if torch.float64 in (x.dtype, books.dtype) else torch.float32
    codes, x_hat, error, counts = search(x, books.to(wide).contiguous(), cosine, True)
    assert torch.equal(codes, expected[0])
    assert torch.equal(x_hat, expected[1])
    if books.shape[1] == 1:
        assert torch.allclose(error, expected[2], rtol=3e-6 if wide == torch.float32 else 1e-14, equal_nan=True)
    for g, s in torch.cartesian_prod(*map(torch.arange, books.shape[:2])).reshape(-1, 2).tolist():
        assert torch.equal(counts[g, s], codes[:, g, s].bincount(minlength=books.shape[2]))
    only = search(x, books.to(wide).contiguous(), cosine, False)
    assert torch.equal(only[0], codes)
    assert only[1].shape == (0, x.shape[1])
    return codes


@pytest.mark.parametrize("cosine", [False, True], ids=["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (5, 3, 7), (70, 17, 100), (33, 130, 65)])
def test_equals_the_definition(n: int, d: int, k: int, dtype: torch.dtype, cosine: bool, device: torch.device) -> None:
    check(torch.randn(n, d).to(device, dtype), torch.randn(1, 1, k, d).to(device, dtype), cosine)


@pytest.mark.parametrize(
    ("d", "k", "mean", "std"), [(64, 4096, 0, 1), (64, 4096, 5, 1), (8, 8192, 0, 1), (64, 4096, 20, 0.1)]
)
def test_no_index_is_wrong(d: int, k: int, mean: float, std: float, device: torch.device) -> None:
    n, k = (2000, k) if device.type == "cuda" else (24, k // 8)
    check((torch.randn(n, d) * std + mean).to(device), (torch.randn(1, 1, k, d) * std + mean).to(device))


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1e37])
def test_any_magnitude(scale: float, device: torch.device) -> None:
    x, books = (torch.randn(8, 9) * scale).to(device), (torch.randn(1, 1, 70, 9) * scale).to(device)
    for cosine in (False, True):
        check(x, books, cosine)
    check((torch.randn(8, 9) * 1e38).to(device), books)


def test_ties_go_to_the_lowest_index(device: torch.device) -> None:
    codebook = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).repeat(20, 1)
    x = torch.tensor([[0.0, 0.0], [0.0, 3.0], [0.5, 0.5], [1.5, 0.0], [-1.0, -1.0]])
    assert check(x.to(device), codebook.to(device)[None, None]).flatten().tolist() == [1, 1, 1, 0, 4]
    assert check(x.to(device), codebook.to(device)[None, None], True).flatten().tolist() == [0, 1, 0, 0, 4]
    assert check(torch.randn(8, 5, device=device), torch.ones(1, 1, 100, 5, device=device)).eq(0).all()


@pytest.mark.parametrize("apart", [1, 16, 32, 64])
def test_doubtful_vectors_are_compared_in_float64(apart: int, device: torch.device) -> None:
    """Codes that scores cannot tell apart: in different lanes, and one behind the other."""
    codes = torch.randn(90, 16)
    codes[5 + apart] = codes[5]
    codes[5 + apart, 3] = codes[5, 3].nextafter(torch.tensor(9.0))
    x = codes[[5, 5 + apart]] + 0.25 * torch.randn(16)
    check(x.to(device), codes.to(device)[None, None])


def test_what_is_not_finite(device: torch.device) -> None:
    x, codes = torch.randn(40, 6), torch.randn(30, 6)
    x[3, 2], x[4, 0], x[5] = torch.nan, torch.inf, -torch.inf
    codes[0, 1], codes[7, 5], codes[12] = torch.nan, torch.inf, -torch.inf
    for books in (codes, torch.full((3, 6), torch.nan)):
        for cosine in (False, True):
            found = search(x.to(device), books.to(device)[None, None], cosine, False)[0]
            expected = search_reference(x, books[None, None], "cosine" if cosine else "euclidean")[0]
            assert torch.equal(found.cpu(), expected)
            assert found[3:6].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(("g", "s", "k", "d", "n"), [(1, 4, 50, 16, 30), (3, 2, 33, 5, 9)])
def test_residual_stages_and_groups(
    g: int, s: int, k: int, d: int, n: int, dtype: torch.dtype, device: torch.device
) -> None:
    x = torch.randn(n, g * d).to(device, dtype)
    check(x, (torch.randn(g, s, k, d) * 0.7 ** torch.arange(s)[:, None, None]).to(device, dtype))


@pytest.mark.parametrize("make", [
    lambda x: x.T.contiguous().T, lambda x: torch.stack((x, x), 2)[:, :, 1], lambda x: torch.cat((x, x), 1)[:, :6],
], ids=["columns", "every other", "part"])  # fmt: skip
def test_strides(make: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> None:
    x = torch.randn(20, 6, device=device)
    check(make(x), torch.randn(2, 1, 40, 3, device=device))
    codes = torch.randint(0, 5, (20,), device=device)
    assert torch.equal(segment_sums(make(x), codes, 5)[0], segment_sums(x, codes, 5)[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_segment_sums(dtype: torch.dtype, device: torch.device) -> None:
    for n, d, k in ((0, 3, 4), (50, 70, 5), (33, 5, 60), (50, 3, 1)):
        x, codes = torch.randn(n, d).to(dtype), torch.randint(0, k, (n,))
        ours, expected = segment_sums(x.to(device), codes.to(device), k), segment_sums_cpu(x, codes, k)
        tolerance = 1.2e-7 if dtype != torch.float64 else 1e-14  # float64 sums of another order, rounded once
        assert torch.allclose(ours[0].cpu(), expected[0], rtol=tolerance, atol=1e-14)
        assert torch.equal(ours[1].cpu(), expected[1])
        assert torch.equal(segment_sums(x.to(device), codes.to(device), k)[0], ours[0])


def spec(d: int, n: int, cosine: bool, wide: bool = False) -> dict[str, Any]:
    book, launch = "fp64" if wide else "fp32", vq_triton._launch(n, d, wide)
    pointers = {
        "X": f"*{book}", "C": f"*{book}", "P1": "*fp16", "P2": "*fp16", "BIAS": "*fp32", "MEAN": f"*{book}",
        "FRAME": f"*{book}", "CODES": "*i64", "X_HAT": f"*{book}", "ERROR": "*fp64", "COUNTS": "*i64",
    }  # fmt: skip
    sizes = {"BN": launch.BN, "BK": launch.BK, "BD": launch.BD, "D": d}
    return {
        "module": "codomain.kernels.vq_triton", "kernel": "_search_kernel", "num_warps": launch.warps,
        "signature": {**pointers, **dict.fromkeys(("n", "k", "stages", "stride_n"), "i32")},
        "constexprs": {**sizes, "COSINE": cosine, "WANTED": True}, "num_stages": launch.depth,
    }  # fmt: skip


def test_compiles_for_gpus_without_spills(compile_for_gpu: Callable[..., list[dict[str, Any]]]) -> None:
    sums = {
        "module": "codomain.kernels.vq_triton", "kernel": "_sums_kernel", "constexprs": {"BR": 32, "BD": 64},
        "signature": {
            "X": "*fp32", "ORDER": "*i64", "STARTS": "*i64", "SUMS": "*fp32", "d": "i32", "stride_n": "i32",
            "stride_d": "i32",
        },
    }  # fmt: skip
    for report in compile_for_gpu([spec(64, 1 << 20, False), sums]):
        assert report["spilled"] == 0, report
        assert report["shared"] <= report["shared_limit"], report


def test_too_many_components(device: torch.device) -> None:
    with pytest.raises(ValueError, match="at most 1024 components fit a GPU's registers; found 1025"):
        search(torch.zeros(2, 1025, device=device), torch.zeros(1, 1, 3, 1025, device=device), False, False)


def test_codes_outside_are_left_out(device: torch.device) -> None:
    x = torch.randn(6, 3, device=device)
    sums, counts = segment_sums(x, torch.tensor([-1, 0, 2, 1, 0, 7], device=device), 2)
    assert torch.equal(sums, torch.stack((x[1].double() + x[4].double(), x[3].double())).float())
    assert counts.tolist() == [2, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_public_functions_on_a_gpu_equal_those_on_the_cpu() -> None:
    x, codebooks = torch.randn(5000, 24), torch.randn(2, 3, 300, 12)
    for metric in ("euclidean", "cosine"):
        theirs, ours = (
            vq.lookup(x, codebooks.reshape(-1, 24), metric),
            vq.lookup(x.cuda(), codebooks.reshape(-1, 24).cuda(), metric),
        )
        assert torch.equal(ours.codes.cpu(), theirs.codes)
        assert torch.equal(ours.x_hat.cpu(), theirs.x_hat)
        assert torch.equal(ours.counts.cpu(), theirs.counts)
        assert torch.allclose(ours.error.cpu(), theirs.error, rtol=3e-6)
    for theirs, ours in zip(
        vq.residual_codes(x, codebooks), vq.residual_codes(x.cuda(), codebooks.cuda()), strict=True
    ):
        assert torch.equal(ours.cpu(), theirs)
    codes = vq.nearest_code(x, codebooks.reshape(-1, 24))
    for theirs, ours in zip(vq.segment_sums(x, codes, 900), vq.segment_sums(x.cuda(), codes.cuda(), 900), strict=True):
        assert torch.allclose(ours.cpu(), theirs, rtol=1.2e-7, atol=1e-14)
