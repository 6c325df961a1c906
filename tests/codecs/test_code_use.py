from __future__ import annotations

import pytest
import torch
from codomain.codecs.code_use import WINDOW, CodeUse


def test_even_use_has_the_perplexity_of_its_number() -> None:
    use = CodeUse(2, 8)
    use.add(torch.tensor([[5] * 8, [5] * 4 + [0] * 4]))
    assert use.perplexity().tolist() == pytest.approx([8, 4], rel=1e-5)
    assert use.share().tolist() == [1.0, 0.5]


def test_what_was_not_chosen_for_long_is_forgotten() -> None:
    use = CodeUse(2)
    use.add(torch.tensor([1, 1]))
    for _ in range(WINDOW - 1):
        use.add(torch.tensor([1, 0]))
    assert use.share() == 1.0
    for _ in range(5):
        use.add(torch.tensor([1, 0]))
    assert use.share() == 0.5
    assert "counts" not in use.state_dict()
