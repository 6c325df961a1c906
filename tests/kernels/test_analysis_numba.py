from __future__ import annotations

import pytest
import torch
from codomain.kernels import analysis_numba
from codomain.kernels.analysis import analyse


@pytest.mark.parametrize("mode", ["symmetric", "periodization"])
def test_strips_and_threads_do_not_change_a_symbol(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights so large that every rounding of a float shows."""
    x = torch.randint(0, 256, (2, 3, 347, 277), dtype=torch.uint8)
    weight, bias, before = torch.randn(48, 192) * 1e4, torch.randn(48), torch.get_num_threads()
    expected = analyse(x, weight, bias, 3, mode=mode)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for strip in (1, 1 << 15, 1 << 20):
                monkeypatch.setattr(analysis_numba, "STRIP", strip)
                assert torch.equal(analyse(x, weight, bias, 3, mode=mode), expected)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(analyse(x[1:], weight, bias, 3, mode=mode), expected[1:])


def test_columns_do_not_change_a_symbol() -> None:
    """A part of the picture, its margin left off, where vectors start elsewhere."""
    x = torch.randint(0, 256, (1, 1, 96, 1200), dtype=torch.uint8)
    weight, bias = torch.randn(5, 64) * 1e4, torch.randn(5)
    expected = analyse(x, weight, bias, 3)
    for first, last in ((0, 97), (13, 70), (31, 150)):
        part = analyse(x[..., 8 * first : 8 * last], weight, bias, 3)
        inner = slice(0 if first == 0 else 4, -1 if last == 150 else -4)
        assert torch.equal(part[..., inner], expected[..., first:last][..., inner])
