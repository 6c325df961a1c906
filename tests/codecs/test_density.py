from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs.density import (
    LEAST,
    ContextDensity,
    draw_quality,
    interpolate,
    logistic_bits,
    rate_weight,
)
from codomain.kernels.context import FRACTION, KNOWN, PHASES, part, steps_reference


def correlated(d: int = 4, side: int = 32, n: int = 6) -> list[torch.Tensor]:
    """Latents whose neighbours, in space and across channels, tell of each other."""
    noise = torch.randn(n, d, side + 4, side + 4)
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1) * 5
    return list(smooth + 0.7 * smooth.roll(1, 1) * (torch.arange(d) > 0)[:, None, None])


def test_logistic_bits_in_both_tails() -> None:
    x = torch.tensor([-30.0, -3.0, -0.5, 0.0, 0.2, 7.0, 25.0], dtype=torch.float64)
    for scale in (0.3, 1.0, 4.0):
        s = torch.full_like(x, scale)
        mass = torch.sigmoid((x.abs() + 0.5) / s * 1) - torch.sigmoid((x.abs() - 0.5) / s)
        exact = x.abs() < 20 * scale  # beyond, the plain difference of sigmoids is rounding noise
        assert torch.allclose(logistic_bits(x, s)[exact], -mass.log2()[exact], rtol=1e-3, atol=2e-5)
        beyond = logistic_bits(
            torch.tensor([500 * scale], dtype=torch.float64), torch.tensor([scale], dtype=torch.float64)
        )
        assert beyond.item() == pytest.approx(500 / np.log(2), rel=0.01)


def test_predictions_look_at_nothing_that_is_not_decoded() -> None:
    density = ContextDensity(3, 2)
    for parameter in density.parameters():
        torch.nn.init.normal_(parameter)
    q = torch.randint(-5, 6, (1, 3, 16, 16)).float()
    quality = torch.tensor([30.0])
    value, scale = density.predict(q, quality)
    c, i, j = 1, 4, 5  # even row, odd column
    changed = q.clone()
    changed[0, c, i, j] += 3
    changed[0, c + 1 :] += 1
    phase = np.zeros((16, 16), int)
    for p in range(len(PHASES)):
        phase[part(p)] = p
    changed[0, c][torch.from_numpy(phase > phase[i, j])] += 2
    other = changed[0, c][torch.from_numpy(phase == phase[i, j])]
    assert len(other) == 64
    for before, after in zip((value, scale), density.predict(changed, quality), strict=True):
        assert torch.equal(before[0, c, i, j], after[0, c, i, j])
    assert [sum(known) for known in KNOWN] == [0, *[4, 4, 8] * 3]


def test_integers_predict_what_the_density_does_and_pay() -> None:
    y, density = correlated(), ContextDensity(4, 3)
    log_step = torch.full((3, 4), -0.5)
    density.fit(y, log_step, 150)
    model = density.to_integers(y, log_step)
    q = (y[0] / np.exp(-0.5)).round()
    with torch.no_grad():
        value, scale = density.predict(q[None], torch.tensor([50.0]))
    symbols = q.to(torch.int32).numpy()
    for c, phase, row, nearest, _ in steps_reference(symbols, model.forms, model.floor(200)):
        expected = value[0, c][part(phase)].numpy().ravel()
        assert np.abs(nearest - expected).max() < 0.52  # rounded, with weights in 2**-12
        low = 2.0 ** (row // 16 - 7.0) * (1 + row // 4 % 4 / 4)
        inside = scale[0, c][part(phase)].numpy().ravel()
        assert ((low * 0.98 < inside) & (inside < low * 1.25 * 1.02)).all()
    bits = 8 * len(model.encode(symbols, 200))
    with torch.no_grad():
        ideal = float(density(q[None], q[None], torch.tensor([50.0]))[0])
    p = [np.unique(s, return_counts=True)[1] / s.size for s in symbols]
    alone = sum(-(f * np.log2(f)).sum() * s.size for f, s in zip(p, symbols, strict=True))
    assert bits < 1.05 * ideal
    assert bits < 0.8 * alone


def test_interpolation_and_weights() -> None:
    table = torch.tensor([[0.0, 5.0], [10.0, 5.0], [40.0, 5.0]])
    found = interpolate(table, torch.tensor([1.0, 25.75, 50.5, 100.0, 400.0]))
    assert torch.allclose(found[:, 0], torch.tensor([0.0, 5.0, 10.0, 40.0, 40.0]))
    assert (found[:, 1] == 5).all()
    quality = draw_quality(4000)
    assert quality.min() >= 1
    assert quality.max() <= 100
    assert abs(float(quality.mean()) - 50) < 2
    assert rate_weight(torch.tensor([34.0, 50.0, 66.0])).tolist() == [2.0, 1.0, 0.5]
    assert LEAST * 2**FRACTION > 1
