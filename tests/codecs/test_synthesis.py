from __future__ import annotations

import pytest
import torch
from codomain.codecs.synthesis import AttentionDecoder, PacketRefiner, shuffle


@pytest.mark.parametrize("ndim", [1, 2])
def test_nothing_beyond_the_halo_matters(ndim: int) -> None:
    decoder = PacketRefiner(4, 2, ndim, 3, widths=(8, 8), blocks=(1, 1))
    for net in decoder.nets:
        torch.nn.init.normal_(net.leave.weight)
    assert decoder.halo is not None
    y = torch.randn(1, 4, *[8] * (ndim - 1), 40)
    changed = y.clone()
    changed[..., 20] += 1
    with torch.no_grad():
        difference = (decoder(y) - decoder(changed)).abs().flatten(0, -2).amax(0)
    (touched,) = torch.nonzero(difference > 0, as_tuple=True)
    per_latent = 4  # its packets are on a grid four times as fine
    assert per_latent * (20 - decoder.halo) <= touched.min()
    assert touched.max() < per_latent * (21 + decoder.halo)


def test_training_starts_at_the_linear_guess() -> None:
    decoder = PacketRefiner(12, 3, 2)
    y = torch.randn(1, 12, 8, 8)
    plain = PacketRefiner(12, 3, 2, widths=(4, 4), blocks=(0, 0))
    plain.linear.load_state_dict(decoder.linear.state_dict())
    assert torch.allclose(decoder(y), plain(y), atol=1e-6)
    assert decoder(y).shape == (1, 12, 32, 32)


def test_shuffle_moves_channels_to_the_grid() -> None:
    assert shuffle(torch.arange(4.0).reshape(1, 4, 1, 1), 2).flatten().tolist() == [0, 1, 2, 3]
    assert shuffle(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 1).flatten().tolist() == [1, 3, 2, 4]


def test_attention_decoder_keeps_the_grid() -> None:
    assert AttentionDecoder(12, 3, level=3, width=32)(torch.randn(1, 12, 5, 7)).shape == (1, 192, 5, 7)


def test_widths_and_blocks_must_match() -> None:
    with pytest.raises(ValueError, match="found 2 and 1"):
        PacketRefiner(4, 3, 2, widths=(8, 8), blocks=(1,))
