"""Triton's packets: in the interpreter on a CPU, the same tests on a GPU where there is one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pywt
import torch

pytest.importorskip("triton")
from codomain.kernels import wpt_triton
from codomain.kernels.wpt import iwpt, iwpt_reference, wpt, wpt_reference
from codomain.kernels.wpt_triton import HEAD, PROXY, TILE, WINDOW, Map, analyse, synthesise, transform

MODES = ["symmetric", "periodization"]
LAUNCH = {  # chunk and stages, before the interpreter's are set
    "_axis_kernel": (wpt_triton.AXIS_CHUNK, wpt_triton.AXIS_STAGES),
    "_plane_kernel": (wpt_triton.PLANE_CHUNK, wpt_triton.PLANE_STAGES),
}
TOLERANCE = 5e-6  # some hundred products of 6e-8, on packets up to 5
ULP = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}  # the interpreter cuts where a GPU rounds
SHAPES = [
    ((2, 3, 40), 3), ((1, 2, PROXY + 2 * TILE), 3), ((1, 1, 256), 8), ((70, 1, 16), 1), ((1, 2, 8, 8), 3),
    ((1, 1, 2, 2), 1), ((2, 1, 72, 68), 2), ((1, 1, 8, PROXY + TILE + 24), 3),
    ((1, 1, PROXY + TILE + 2, 4), 1),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs hold NaN until the kernel has written them."""
    plain = torch.Tensor.new_empty
    if not torch.cuda.is_available():  # the interpreter pays per operation: fewer and larger ones
        monkeypatch.setattr(wpt_triton, "AXIS_CHUNK", WINDOW)
        monkeypatch.setattr(wpt_triton, "PLANE_CHUNK", WINDOW)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *size, **how: plain(x, *size, **how).fill_(torch.nan))


def noise(*shape: int, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.rand(*shape) * 2 - 1).to(device, dtype)


def largest(x: torch.Tensor) -> float:
    return float(x.abs().max())  # NaN where nothing was written, and NaN is not below a bound


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "level"), SHAPES)
def test_equals_reference_and_inverts(shape: tuple[int, ...], level: int, mode: str, device: torch.device) -> None:
    x = noise(*shape, device=device)
    X = analyse(x, level, "bior4.4", mode)
    reference = wpt_reference(x.double(), level, mode=mode)
    assert X.shape == reference.shape
    assert largest(X - reference) <= TOLERANCE
    assert largest(synthesise(X, level, "bior4.4", mode) - x) <= TOLERANCE
    assert largest(synthesise(reference.float(), level, "bior4.4", mode) - x) <= TOLERANCE


@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior6.8", "sym5", "db10"])
def test_periodization_equals_pywavelets(wavelet: str, device: torch.device) -> None:
    x = noise(1, 1, 40, 72, device=device)
    tree = pywt.WaveletPacket2D(x[0, 0].double().cpu().numpy(), wavelet, "periodization", maxlevel=3)
    oracle = np.stack([tree["".join(path)].data for path in itertools.product("ahvd", repeat=3)])
    ours = analyse(x, 3, wavelet, "periodization")[0].cpu().numpy()
    np.testing.assert_allclose(ours, oracle, atol=1e-5)


def test_four_levels_of_a_picture(device: torch.device) -> None:
    x = noise(1, 1, 16, 16, device=device)
    assert largest(analyse(x, 4, "bior4.4", "symmetric") - wpt_reference(x.double(), 4)) <= TOLERANCE


def test_filters_that_do_not_fit_stay_elsewhere() -> None:
    assert wpt_triton.steps(8, "bior4.4") == (3, 3, 2)
    assert wpt_triton.steps(4, "bior4.4") == (3, 1)
    assert wpt_triton.steps(3, "bior6.8") == (2, 1)
    assert wpt_triton.steps(1, "db38") == ()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 2, 88), (1, 1, 24, 88), (1, 1, 80, 16)])
def test_gradients_equal_those_of_the_reference(shape: tuple[int, ...], mode: str, device: torch.device) -> None:
    packets = (shape[0], shape[1] << (2 * (len(shape) - 2)), *(n // 4 for n in shape[2:]))
    for ours, reference, size in ((analyse, wpt_reference, shape), (synthesise, iwpt_reference, packets)):
        x = noise(*size, device=device).requires_grad_()
        exact = x.detach().double().requires_grad_()
        z, expected = ours(x, 2, "bior4.4", mode), reference(exact, 2, mode=mode)
        weight = noise(*z.shape, device=device)
        (gradient,) = torch.autograd.grad((z * weight).sum(), x)
        (exact_gradient,) = torch.autograd.grad((expected * weight).sum(), exact)
        assert largest(gradient - exact_gradient) <= TOLERANCE


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inverse", [False, True])
def test_adjoint(mode: Any, inverse: bool, device: torch.device) -> None:
    """<W x, y> = <x, W' y>; the adjoint of the adjoint is W."""
    by = Map(3, "bior4.4", mode, inverse, False)
    x = noise(1, *((64, 9, 3) if inverse else (1, 72, 24)), device=device)
    z = transform(x, by)
    y = noise(*z.shape, device=device)
    adjoint = transform(y, by._replace(transposed=True))
    assert abs(float((z * y).double().sum() - (x * adjoint).double().sum())) <= 1e-4
    assert adjoint.shape == x.shape


def test_chunks_do_not_matter(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(1, 1, 16, 24, device=device)
    expected = wpt_reference(x.double(), 3)
    for chunk in (16, 32):
        monkeypatch.setattr(wpt_triton, "PLANE_CHUNK", chunk)
        assert largest(analyse(x, 3, "bior4.4", "symmetric") - expected) <= TOLERANCE


def test_second_derivative(device: torch.device) -> None:
    x = noise(1, 1, 16, 16, device=device).requires_grad_()
    z = analyse(x, 2, "bior4.4", "symmetric")
    (gradient,) = torch.autograd.grad(z.pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    exact = x.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(wpt_reference(exact, 2).pow(3).sum(), exact, create_graph=True)
    (expected,) = torch.autograd.grad(gradient.sum(), exact)
    assert largest(second - expected) <= 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(1, 2, 136), (1, 1, 40, 72)])
def test_half_precision_is_rounded_once(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    x = noise(*shape, device=device, dtype=dtype)
    X = analyse(x, 3, "bior4.4", "symmetric")
    assert X.dtype == dtype
    exact = wpt_reference(x.double(), 3)
    assert ((X.double() - exact).abs() <= exact.abs() * ULP[dtype] + 1e-5).all()
    back = synthesise(X, 3, "bior4.4", "symmetric")
    assert back.dtype == dtype
    exact = iwpt_reference(X.double(), 3)
    assert ((back.double() - exact).abs() <= exact.abs() * ULP[dtype] + 1e-5).all()


def test_views(device: torch.device) -> None:
    x = noise(1, 24, 36, 3, device=device).permute(0, 3, 1, 2)
    for view in (x, x.flip(3)[:, :2, 4:], x[..., ::3].transpose(2, 3), x[:, 2:].expand(2, 2, 24, 36)):
        ours = analyse(view, 2, "bior4.4", "symmetric")
        assert torch.equal(ours, analyse(view.contiguous(), 2, "bior4.4", "symmetric"))
    X = noise(1, 12, 20, 16, device=device).transpose(2, 3)
    assert torch.equal(synthesise(X, 1, "bior4.4", "symmetric"), synthesise(X.contiguous(), 1, "bior4.4", "symmetric"))
    sound = x[:, :, 0]
    both = analyse(sound, 2, "haar", "periodization"), analyse(sound[:, 1:2], 2, "haar", "periodization")
    assert torch.equal(both[0][:, 4:8], both[1])


def test_tables_of_a_long_axis_are_those_of_a_whole_matrix() -> None:
    """Tiles of an axis longer than the proxy, against the dense matrix of that length."""
    for transposed, inverse, mode in itertools.product((False, True), (False, True), MODES):
        by = Map(2, "bior4.4", mode, inverse, transposed)  # type: ignore[arg-type]
        n = PROXY + 3 * TILE + 12
        matrices, skipped = wpt_triton.tables(n, by, torch.device("cpu"))
        first, _ = wpt_triton._support(by)
        whole = wpt_triton._axis_matrix(n, by)
        for tile in range(-(-n // TILE)):
            part = matrices[min(tile, max(HEAD, tile - skipped))].numpy().T
            rows = np.zeros((TILE, n))
            index = tile * TILE + first + np.arange(WINDOW)
            inside = np.ones(WINDOW, bool) if mode == "periodization" else (index >= 0) & (index < n)
            rows[:, index[inside] % n] = part[:, inside]
            expected = whole[tile * TILE : (tile + 1) * TILE]
            np.testing.assert_allclose(rows[: len(expected)], expected, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the public functions take Triton on a GPU")
@pytest.mark.parametrize("shape", [(1, 2, 4096), (2, 3, 256, 392), (1, 1, 16, 16, 8)])
def test_public_functions(shape: tuple[int, ...], device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # three axes go through torch's convolutions
    x = (torch.rand(*shape) * 2 - 1).to(device)
    X = wpt(x, 2)
    assert X.is_cuda
    assert largest(X - wpt_reference(x.double(), 2)) <= TOLERANCE
    assert largest(iwpt(X, 2) - x) <= TOLERANCE


def test_compiles_without_spills(compile_for_gpu: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    def spec(kernel: str, dtype: str, splits: bool, periodic: bool) -> dict[str, Any]:
        pointers = {"_axis_kernel": ("matrices",), "_plane_kernel": ("by_row", "by_column")}[kernel]
        axes = [f"{end}_{axis}" for end in ("x", "out") for axis in ("batch", "channel", "row", "column", "band")]
        numbers = {
            "_axis_kernel": ["rows", "n", "first", "reach", "skipped"],
            "_plane_kernel": ["channels", "height", "width", "first", "reach", "row_skipped", "column_skipped", *axes],
        }[kernel]
        chunk, stages = LAUNCH[kernel]
        tables = {**dict.fromkeys(pointers, "*fp32"), **dict.fromkeys(numbers, "i32")}
        return {
            "module": "codomain.kernels.wpt_triton", "kernel": kernel,
            "num_warps": wpt_triton.WARPS, "num_stages": stages,
            "signature": {"x": dtype, "out": dtype, **tables},
            "constexprs": {
                "PERIODIC": periodic, "SPLITS": splits, "LEVEL": 3,
                "TILE": TILE, "WINDOW": WINDOW, "HEAD": HEAD, "CHUNK": chunk,
            },
        }  # fmt: skip

    specs = [
        spec("_plane_kernel", "*fp32", True, False), spec("_plane_kernel", "*fp32", False, True),
        spec("_plane_kernel", "*bf16", True, True), spec("_axis_kernel", "*fp32", True, False),
        spec("_axis_kernel", "*fp16", False, True),
    ]  # fmt: skip
    reports = compile_for_gpu(specs)
    assert len(reports) == 2 * len(specs)
    for report in reports:
        assert report["spilled"] == 0, report
        assert report["shared"] <= report["shared_limit"], report
