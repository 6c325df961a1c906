from __future__ import annotations

import pytest
import torch
from codomain.kernels import wpt_numba
from codomain.kernels.filters import halves
from codomain.kernels.wpt import wpt_reference


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    x = torch.rand(1, 2, 264, 280)
    before = torch.get_num_threads()
    analysis, synthesis = halves("bior4.4")
    try:
        torch.set_num_threads(1)
        expected = wpt_numba.analyse(x, 2, analysis, False)
        back = wpt_numba.synthesise(expected, 2, synthesis, False)
        torch.set_num_threads(threads)
        assert torch.equal(wpt_numba.analyse(x, 2, analysis, False), expected)
        assert torch.equal(wpt_numba.synthesise(expected, 2, synthesis, False), back)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("width", [8, 120, 128, 136, 264])
def test_widths_around_the_block(width: int, periodic: bool) -> None:
    x = torch.rand(1, 1, 16, width) * 2 - 1
    ours = wpt_numba.analyse(x, 3, halves("bior4.4")[0], periodic)
    mode = "periodization" if periodic else "symmetric"
    assert (ours - wpt_reference(x.double(), 3, mode=mode)).abs().max() <= 5e-6
