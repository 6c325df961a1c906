from __future__ import annotations

import torch
from codomain.codecs.discriminators import (
    Discriminators,
    PeriodDiscriminator,
    ScaleDiscriminator,
    SpectrogramDiscriminator,
)


def test_published_sizes() -> None:
    """HiFi-GAN: 41.1 million parameters for five periods, 29.6 for three scales; EnCodec's 32 filters for the third."""

    def millions(*modules: torch.nn.Module) -> float:
        named = [item for m in modules for item in m.named_parameters()]
        return sum(p.numel() for n, p in named if not n.endswith("original0")) / 1e6

    assert round(millions(*(PeriodDiscriminator(p) for p in (2, 3, 5, 7, 11))), 1) == 41.1
    assert round(millions(*(ScaleDiscriminator(s) for s in range(3))), 1) == 29.6
    layer = 32 * 32 * 27 + 32
    assert round(millions(SpectrogramDiscriminator(256)) * 1e6) == 2 * 32 * 27 + 32 + 3 * layer + 32 * 32 * 9 + 32 + 289


def test_a_period_folds_the_sound_into_rows() -> None:
    judge = PeriodDiscriminator(3, width=16)
    x = torch.randn(2, 1, 1002)
    scores, features = judge(x)
    assert [tuple(f.shape) for f in features] == [
        (2, 2, 112, 3),
        (2, 8, 38, 3),
        (2, 32, 13, 3),
        (2, 64, 5, 3),
        (2, 64, 5, 3),
    ]
    assert scores.shape == (2, 1, 5, 3)
    moved = x.clone()
    moved[..., 1::3] += 1  # one column of three
    changed = (judge(moved).scores - scores).abs().amax((0, 1, 2)) > 1e-7
    assert changed.tolist() == [False, True, False]


def test_scales_halve_the_rate() -> None:
    x = torch.randn(1, 1, 4096)
    lengths = [ScaleDiscriminator(s, width=16)(x).features[0].shape[2] for s in range(3)]
    assert lengths == [4096, 2049, 1025]
    assert ScaleDiscriminator(0, width=16)(x).scores.shape == (1, 1, 64)


def test_a_spectrogram_has_frames_and_half_the_frequencies() -> None:
    scores, features = SpectrogramDiscriminator(256, filters=4)(torch.randn(2, 1, 2048))
    assert [tuple(f.shape[2:]) for f in features] == [(33, 129), (33, 65), (33, 33), (33, 17), (33, 17)]
    assert scores.shape == (2, 1, 33, 17)


def test_all_of_them_judge() -> None:
    judges = Discriminators(periods=(2, 3), scales=2, n_ffts=(256,), width=16, filters=4)
    judgements = judges(torch.randn(1, 1, 2000))
    assert [len(j.features) for j in judgements] == [5, 5, 7, 7, 5]
