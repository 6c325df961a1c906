from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.kernels import vq_numba
from codomain.kernels.vq import search_reference


def test_scores_are_within_the_bound() -> None:
    """What the certificate rests on, seen from the panels that the tile reads."""
    rng = np.random.default_rng(0)
    for d, mean, spread in ((64, 20, 0.1), (8, 0, 1), (3, 1e6, 10), (200, -5, 1e20)):
        x, codes = (rng.normal(mean, spread, (n, d)).astype(np.float32) for n in (30, 50))
        panels, frame = np.empty((4, d + 1, 16), np.float32), np.empty(d + 2)
        vq_numba._prepare(codes, False, panels, frame)
        packed, norms = np.zeros(30 * d, np.float32), np.empty(30)
        vq_numba._pack(x, False, frame, packed, norms)
        vectors = packed.reshape(5, d, 6).transpose(0, 2, 1).reshape(30, d)
        scores = vectors @ panels[:, 1:].transpose(1, 0, 2).reshape(d, 64)[:, :50] + panels[:, 0].reshape(64)[:50]
        exact = (norms[:, None] ** 2 - (((x[:, None].astype(float) - codes) * frame[d]) ** 2).sum(2)) / 2
        for row, norm in enumerate(norms):
            assert 2 * np.abs(scores - exact)[row].max() <= vq_numba._bound(norm, frame[d + 1], d)


def test_the_tile_keeps_the_two_highest_of_every_lane() -> None:
    rng = np.random.default_rng(0)
    d, panels = 7, rng.normal(size=(3, 8, 16)).astype(np.float32)
    x = rng.normal(size=(d, 6)).astype(np.float32)
    best, second, which = np.full(48, -np.inf, np.float32), np.full(48, -np.inf, np.float32), np.zeros(48, np.int32)
    from numba import njit

    @njit
    def run(x, panels, best, second, which):  # type: ignore[no-untyped-def]
        for p in range(3):
            vq_numba._tile(x, 0, panels, p * 128, 7, best, second, which, 0, 2 * p)

    run(x.reshape(-1), panels.reshape(-1), best, second, which)
    scores = np.einsum("ir,pil->rpl", x, panels[:, 1:]) + panels[:, 0]
    lanes = scores.reshape(6, 6, 8)  # vectors, lane groups, lanes
    ordered = np.sort(lanes, axis=1)
    np.testing.assert_allclose(best.reshape(6, 8), ordered[:, -1], rtol=1e-5)
    np.testing.assert_allclose(second.reshape(6, 8), ordered[:, -2], rtol=1e-5)
    np.testing.assert_array_equal(which.reshape(6, 8), lanes.argmax(1))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vq_numba, "WORTH", 1)
    x, books = torch.randn(700, 12), torch.randn(2, 3, 40, 6)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    codes, x_hat, error = search_reference(x, books)
    ours = vq_numba.search(x.numpy(), books.numpy(), False, True)
    np.testing.assert_array_equal(ours[0], codes.numpy())
    np.testing.assert_array_equal(ours[1], x_hat.numpy())
    np.testing.assert_allclose(ours[2], error.numpy(), rtol=1.2e-7)  # float64 sums of another order, rounded once
    codes = torch.randint(0, 40, (700,))
    sums, counts = vq_numba.segment_sums(x.numpy(), codes.numpy(), 41)
    expected = torch.zeros(41, 12, dtype=torch.float64).index_add_(0, codes, x.double())
    np.testing.assert_array_equal(sums, expected.float().numpy())
    np.testing.assert_array_equal(counts, codes.bincount(minlength=41).numpy())


def test_doubtful_vectors_are_compared_in_float64() -> None:
    """Codes that float32 scores cannot tell apart: in other lanes, and 8 apart in the same."""
    rng = np.random.default_rng(0)
    for apart in (1, 8, 16):
        codes = rng.normal(size=(64, 16)).astype(np.float32)
        codes[5 + apart] = codes[5]
        codes[5 + apart, 3] = np.nextafter(codes[5, 3], np.float32(9))
        x = codes[[5, 5 + apart]] + np.float32(0.25) * rng.normal(size=16).astype(np.float32)
        expected = ((x[:, None].astype(float) - codes) ** 2).sum(2).argmin(1)
        found = vq_numba.search(x, codes[None, None], False, False)[0]
        np.testing.assert_array_equal(found[:, 0, 0], expected)


def test_repeated_codes_are_found() -> None:
    codes = np.random.default_rng(0).integers(0, 3, (200, 4)).astype(np.float64)
    codes[50:60] = -0.0
    codes[70, 2] = np.nan
    seen: set[tuple[float, ...]] = set()
    expected = []
    for code in codes:
        key = tuple(code + 0.0)
        expected.append(key in seen)
        seen.add(key)
    assert vq_numba._repeats(codes).tolist() == expected
