from __future__ import annotations

import torch
from codomain.kernels.vq import nearest_code


def test_equals_brute_force() -> None:
    x, codebook = torch.randn(300, 8), torch.randn(50, 8)
    assert torch.equal(nearest_code(x, codebook), torch.cdist(x.double(), codebook.double()).argmin(1))
