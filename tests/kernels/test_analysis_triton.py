"""Triton's fused analysis: in the interpreter on a CPU, the same tests on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("triton")
from codomain.kernels import analysis_triton
from codomain.kernels.analysis import analyse_reference, limits, scaling
from codomain.kernels.wpt_triton import HEAD, PLANE_CHUNK, PLANE_STAGES, TILE, WARPS, WINDOW


@pytest.fixture(autouse=True)
def _few_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():  # the interpreter pays per operation
        monkeypatch.setattr(analysis_triton, "PLANE_CHUNK", WINDOW)


def samples(*shape: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if dtype == torch.float32:
        return (torch.rand(*shape) * 2 - 1).to(device)
    most = 256 if dtype == torch.uint8 else 65536
    return torch.randint(0, most, shape, dtype=torch.int32).to(dtype).to(device)


def run(x: torch.Tensor, *rest: Any, mode: Any = "symmetric", dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return analysis_triton.analyse(x, *rest, "bior4.4", mode, dtype, limits(dtype), scaling(x.dtype))


@pytest.mark.parametrize(
    ("shape", "level", "d", "samples_dtype", "mode"),
    [
        ((1, 3, 64, 72), 3, 12, torch.uint8, "symmetric"), ((2, 1, 61, 30), 3, 5, torch.uint8, "periodization"),
        ((1, 2, 3, 100), 3, 48, torch.uint16, "symmetric"), ((1, 1, 40, 24), 3, 64, torch.float32, "symmetric"),
    ],
)  # fmt: skip
def test_equals_the_definition(
    shape: tuple[int, ...], level: int, d: int, samples_dtype: torch.dtype, mode: str, device: torch.device
) -> None:
    x = samples(*shape, dtype=samples_dtype, device=device)
    weight, bias = torch.randn(d, shape[1] << (2 * level)).to(device) * 3, torch.randn(d).to(device)
    ours, exact = (f(x, weight, bias, level, mode=mode) for f in (run, analyse_reference))
    assert ours.shape == exact.shape
    assert (ours - exact).abs().max() <= 1
    assert (ours != exact).float().mean() <= 1e-3  # what float32 cannot tell from a tie


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32], ids=str)
def test_ties_and_limits(dtype: torch.dtype, device: torch.device) -> None:
    bias = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e30, -1e30, 8388609.0, 4194305.5], device=device)
    weight, x = torch.zeros(10, 64, device=device), samples(1, 1, 8, 8, dtype=torch.uint8, device=device)
    least, most = limits(dtype)
    expected = [-2, -2, 0, 0, 2, 2, most, least, min(8388609, most), min(4194306, most)]
    assert run(x, weight, bias, 3, dtype=dtype)[0, :, 0, 0].tolist() == expected


def test_interleaved_colours(device: torch.device) -> None:
    x = samples(1, 24, 40, 3, dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    weight, bias = torch.randn(6, 192).to(device), torch.randn(6).to(device)
    assert torch.equal(run(x, weight, bias, 3), run(x.contiguous(), weight, bias, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_signal_that_is_not_finite(value: float, device: torch.device) -> None:
    x = samples(1, 1, 16, 16, dtype=torch.float32, device=device)
    x[0, 0, 3, 4] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        run(x, torch.ones(2, 64, device=device), torch.ones(2, device=device), 3)


def test_takes_what_fits() -> None:
    assert analysis_triton.takes(3, "bior4.4", 48)
    assert not analysis_triton.takes(3, "bior4.4", 65)
    assert not analysis_triton.takes(2, "bior4.4", 12)
    assert not analysis_triton.takes(4, "bior4.4", 12)
    assert not analysis_triton.takes(3, "bior6.8", 12)  # three such levels are longer than the window


def test_compiles_without_spills(compile_for_gpu: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    def spec(samples: str, integers: str, latents: int) -> dict[str, Any]:
        numbers = [
            "channels", "height", "width", "rows_held", "columns_held", "first", "reach", "row_skipped",
            "column_skipped", "x_batch", "x_channel", "x_row", "x_column", "d",
        ]  # fmt: skip
        floats = dict.fromkeys(("by_row", "by_column", "weights", "bias"), "*fp32")
        scalars = dict.fromkeys(("scale", "offset", "least", "most"), "fp32")
        return {
            "module": "codomain.kernels.analysis_triton", "kernel": "_analysis_kernel",
            "num_warps": WARPS, "num_stages": PLANE_STAGES,
            "signature": {
                "x": samples, "out": integers, "failed": "*i32",
                **floats, **scalars, **dict.fromkeys(numbers, "i32"),
            },
            "constexprs": {
                "PERIODIC": False, "LEVEL": 3, "TILE": TILE, "WINDOW": WINDOW, "HEAD": HEAD, "CHUNK": PLANE_CHUNK,
                "LATENTS": latents,
            },
        }  # fmt: skip

    reports = compile_for_gpu([spec("*u8", "*i8", 16), spec("*fp32", "*i32", 64)])
    for report in reports:
        assert report["spilled"] == 0, report
        assert report["shared"] <= report["shared_limit"], report
