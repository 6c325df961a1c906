from __future__ import annotations

import pytest
import torch
from codomain.codecs.oobleck import OobleckDecoder
from codomain.kernels.wpt import iwpt


def small(**options: int | str) -> OobleckDecoder:
    return OobleckDecoder(**{"latent_dim": 6, "channels": 2, "level": 3, "width": 20, "taps": 9, **options})


def test_features_are_a_multiple_of_the_latents() -> None:
    decoder = small()
    assert [stage.snake.log_a.shape for stage in decoder.stages] == [(18, 1), (18, 1)]
    assert decoder(torch.randn(2, 6, 12)).shape == (2, 2, 12 * 8)


def test_its_filter_comes_last() -> None:
    """Without the filter, what is returned has exactly the packets of the last convolution."""
    decoder = small().requires_grad_(False)
    y = torch.randn(1, 6, 16)
    decoder.filter.weight.copy_(torch.eye(2)[:, :, None] * (torch.arange(9) == 4))
    decoder.filter.bias.zero_()
    z = decoder.enter(y)
    for stage in decoder.stages:
        z = stage(z)
    plain = iwpt(decoder.leave(decoder.snake(z)), 3, mode="periodization")
    assert (decoder(y) - plain).abs().max() < 1e-6
    decoder.filter.weight[0, 1, 8] = 0.5  # four samples earlier, from the other channel
    assert (decoder(y)[:, 0, :-4] - plain[:, 0, :-4] - 0.5 * plain[:, 1, 4:]).abs().max() < 1e-5


def test_halo_holds_and_is_centred() -> None:
    decoder = small(mode="symmetric", width=12).double().requires_grad_(False)
    halo = decoder.halo
    assert halo is not None
    y = torch.randn(1, 6, 2 * halo + 11, dtype=torch.float64)
    changed = y.clone()
    changed[..., halo + 5] += 10
    touched = (decoder(y) != decoder(changed)).any(1)[0].nonzero()[:, 0]
    first, last = touched.min().item() / 8 - (halo + 5), touched.max().item() / 8 - (halo + 5)
    assert -halo <= first < -80 and 80 < last < halo + 1
    assert abs(first + last) < 2  # the two stages of two taps look to either side


def test_faults() -> None:
    with pytest.raises(ValueError, match="at least latent_dim=6; found 5"):
        small(width=5)
    with pytest.raises(ValueError, match="taps is odd; found 8"):
        small(taps=8)
