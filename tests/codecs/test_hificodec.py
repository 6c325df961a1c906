from __future__ import annotations

from pathlib import Path

import pytest
import torch
from codomain.codecs.bottleneck import EntropyBottleneck
from codomain.codecs.hificodec import HiFiCodec
from codomain.codecs.load import build
from codomain.codecs.spectral import SpectralDecoder, SpectralEncoder

CONFIGS = Path(__file__).parents[2] / "configs" / "codecs"


def small() -> HiFiCodec:
    codec = HiFiCodec(
        EntropyBottleneck(8),
        SpectralEncoder(8, n_ffts=(512, 160), frames=(1, 2), width=16, hidden=24, blocks=2),
        SpectralDecoder(8, n_fft=1280, width=16, hidden=24, blocks=2),
        sample_rate=16000,
        latent_dim=8,
    )
    codec.start(torch.randn(4, 1, 32 * 320) * 0.1)
    codec.bottleneck.freeze_tables([codec.analysis(torch.randn(1, 1, 32 * 320) * 0.1)[0].detach()])
    return codec.eval().requires_grad_(False)


def test_tiles_are_the_whole() -> None:
    codec = small()
    x = torch.randn(1, 1, 320 * 450) * 0.1  # more latents than a tile has, to encode and to decode
    with torch.no_grad():
        y = codec.bottleneck.from_symbols(codec.bottleneck.to_symbols(codec.analysis(x)))
        x_hat = codec.synthesis(y).clamp(-1, 1)
    assert (codec.encode(x) != y).float().mean() < 1e-3  # a latent halfway between two steps may fall to either side
    assert (codec.decode(y) - x_hat).abs().max() < 1e-5
    assert torch.equal(codec.decode(y, tile=37), codec.decode(y, tile=37))
    assert (codec.decode(y, tile=37) - x_hat).abs().max() < 1e-5


@pytest.mark.parametrize("t", [1, 319, 320, 5000])
def test_bytes_of_any_length(t: int) -> None:
    codec = small()
    x = torch.rand(1, 1, t) - 0.5
    data = codec.compress(x, sample_rate=codec.sample_rate)
    assert codec.decompress(data).shape == x.shape
    assert torch.equal(codec.read_latents(data), codec.encode(x))


@pytest.mark.parametrize(
    ("config", "fps", "kbps", "megabytes"),
    [
        ("hificodec_speech_16k.yaml", 50, 2.0, 8.0),
        ("hificodec_16k_paper.yaml", 50, 2.0, 200.0),
        ("hificodec_24k_paper.yaml", 75, 3.0, 200.0),
    ],
)
def test_configs_build_codecs_of_their_rate(config: str, fps: int, kbps: float, megabytes: float) -> None:
    codec = build(CONFIGS / config)
    assert isinstance(codec, HiFiCodec) and codec.sample_rate / codec.stride == fps
    assert codec.bottleneck.n_symbols * 10 * fps / 1000 == kbps
    state = {k: v for k, v in codec.state_dict().items() if ".density." not in k}
    assert sum(v.numel() for v in state.values()) * 2 / 1e6 < megabytes
    x = torch.randn(1, 1, 320 * 8) * 0.1
    with torch.no_grad():
        y = codec.analysis(x)
        assert y.shape == (1, codec.latent_dim, 8)
        assert codec.synthesis(y).shape == x.shape


def test_twenty_steps_reduce_the_loss() -> None:
    from codomain.codecs.losses import MelDistance

    codec = small().requires_grad_(True)
    mel = MelDistance(16000, (128, 512), (10, 20))
    x = 0.3 * torch.sin(torch.arange(320 * 16) * 0.1 * torch.linspace(0.5, 2, 4)[:, None])[:, None]
    optimizer = torch.optim.AdamW([*codec.encoder.parameters(), *codec.decoder.parameters()], lr=3e-3)
    losses = []
    for _ in range(20):
        loss = mel(codec.synthesis(codec.analysis(x)), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.8 * losses[0]
