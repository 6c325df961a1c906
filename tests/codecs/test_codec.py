from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from codomain.codecs import bitstream
from codomain.codecs.bitstream import BitstreamError, Header
from codomain.codecs.walloc import WaLLoC
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 8), (64, 65), (301, 203), (100, 900)])
def test_any_size_comes_back(codec: WaLLoC, size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size) * 2 - 1
    data = codec.compress(x)
    x_hat, y = codec.decompress(data), codec.read_latents(data)
    assert x_hat.shape == x.shape
    assert y.shape == (1, 12, -(-size[0] // 8), -(-size[1] // 8))
    assert torch.equal(y, codec.encode(x))
    assert torch.equal(codec.decode(y)[..., : size[0], : size[1]], x_hat)
    assert x_hat.abs().max() <= 1


@pytest.mark.parametrize(("channels", "ndim"), [(1, 2), (8, 2), (1, 1), (2, 1)])
def test_any_channel_count_and_sound(make_codec: Callable[..., WaLLoC], channels: int, ndim: int) -> None:
    codec = make_codec(ndim, channels, latent_dim=6)
    x = torch.rand(1, channels, *([53] if ndim == 1 else [53, 40])) * 2 - 1
    data = codec.compress(x, sample_rate=48000)
    assert codec.decompress(data).shape == x.shape
    assert torch.equal(codec.read_latents(data), codec.encode(x))


def test_integers_equal_floats(codec: WaLLoC, photo: torch.Tensor) -> None:
    x = photo.float() / 127.5 - 1
    data = codec.compress(photo)
    assert len(data) == pytest.approx(len(codec.compress(x)), abs=4)
    assert len(data) == pytest.approx(len(codec.compress((photo.int() * 257).to(torch.uint16))), abs=4)
    eight = codec.decompress(data, dtype=torch.uint8).float() / 127.5 - 1
    assert (eight - codec.decompress(data)).abs().max() <= 1.001 / 255
    sixteen = codec.decompress(data, dtype=torch.uint16).float() / 32767.5 - 1
    assert (sixteen - codec.decompress(data)).abs().max() <= 1.1 / 65535


def test_tiles_do_not_show(codec: WaLLoC) -> None:
    y = codec.encode(torch.rand(1, 3, 400, 330) * 2 - 1)
    whole = codec.decode(y, tile=10**6)
    for tile in (7, 16, 40):
        assert (codec.decode(y, tile=tile) - whole).abs().max() <= 1e-5


def test_chunks_of_a_large_picture(codec: WaLLoC) -> None:
    x = torch.rand(1, 3, 800, 1600) * 2 - 1
    data = codec.compress(x)
    assert len(bitstream.read(data).chunks) == 2 * 3
    y = codec.encode(x)
    assert torch.equal(codec.read_latents(data), y)
    whole = codec.bottleneck.from_symbols(codec.bottleneck.to_symbols(codec.analysis(x)))
    assert (y != whole).float().mean() < 1e-4  # rounding at a tie may differ between tilings, no more


def test_batches_encode_like_single_signals(codec: WaLLoC) -> None:
    x = torch.rand(3, 3, 40, 48)
    y = codec.encode(x)
    assert torch.equal(y[1:2], codec.encode(x[1:2]))
    assert torch.allclose(codec.decode(y)[2:], codec.decode(y[2:]), atol=1e-5)


def test_threads_and_backends_decode_the_same_latents(codec: WaLLoC, photo: torch.Tensor) -> None:
    data = codec.compress(photo)
    expected, before = codec.read_latents(data), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(codec.read_latents(data), expected)
    finally:
        torch.set_num_threads(before)


def test_overhead_over_the_ideal_code_length(codec: WaLLoC, photo: torch.Tensor) -> None:
    symbols = codec.bottleneck.to_symbols(codec.analysis(photo[..., :296, :448].float() / 127.5 - 1))
    tables = codec.bottleneck.tables()
    columns = symbols[0].flatten(1).numpy() - tables.offsets[:, None]
    held = (columns >= 0) & (columns < tables.escape)
    freqs = tables.all_freqs[np.arange(12)[:, None], np.where(held, columns, tables.escape)]
    ideal = -np.log2(freqs / 2**tables.precision).sum() / 8
    assert len(codec.compress(photo[..., :296, :448])) <= 1.005 * ideal + 32 + 5 * (~held).sum()


def test_salvage_decodes_the_rest(codec: WaLLoC) -> None:
    x = torch.rand(1, 3, 800, 300)
    data = bytearray(codec.compress(x))
    whole = codec.decompress(bytes(data))
    data[-100] ^= 1
    with pytest.raises(BitstreamError, match="chunk 2 of 2 is damaged"):
        codec.decompress(bytes(data))
    salvaged = codec.decompress(bytes(data), salvage=True)
    assert torch.allclose(salvaged[..., :300, :], whole[..., :300, :], atol=1e-5)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (torch.zeros(1, 3, 0, 8), r"not empty; found \(1, 3, 0, 8\)"),
        (torch.zeros(1, 4, 8, 8), r"\(b, 3, h, w\).*\(1, 4, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"found \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.float64), "found torch.float64"),
        (torch.zeros(2, 3, 8, 8), "b = 1"),
        (torch.full((1, 3, 8, 8), float("nan")), "NaN or infinity"),
        (torch.full((1, 3, 8, 8), float("inf")), "NaN or infinity"),
    ],
)
def test_bad_signals(codec: WaLLoC, x: torch.Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        codec.compress(x)


def test_bad_latents(codec: WaLLoC) -> None:
    with pytest.raises(ValueError, match=r"\(b, 12, ...\).*\(1, 11, 4, 4\)"):
        codec.decode(torch.zeros(1, 11, 4, 4))


def test_another_models_file(codec: WaLLoC) -> None:
    for header, says in (
        (Header("image", b"unknown!", (8, 8)), "made by weights 756e6b6e6f776e21"),
        (Header("sound", bytes(8), (3, 8, 44100)), "the file holds sound"),
        (Header("image", bytes(8), (8, 8)), "0 chunks; a signal of this size has 1"),
    ):
        with pytest.raises(BitstreamError, match=says):
            codec.decompress(bitstream.write(header, []))


def test_truncations_and_2000_flips(codec: WaLLoC) -> None:
    data = codec.compress(torch.rand(1, 3, 40, 48) * 2 - 1)
    for cut in range(len(data)):
        with pytest.raises(BitstreamError):
            codec.decompress(data[:cut])
    rng, damaged = np.random.default_rng(0), bytearray(data)
    for bit in rng.integers(0, 8 * len(data), 2000):
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            codec.decompress(bytes(damaged))
        damaged[bit // 8] ^= 1 << bit % 8


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_chunks_of_random_bytes(codec: WaLLoC, data: bytes) -> None:
    """A correct container around anything: the signal, or BitstreamError."""
    try:
        x_hat = codec.decompress(bitstream.write(Header("image", codec.digest, (16, 9)), [data]))
        assert x_hat.shape == (1, 3, 9, 16)
        assert torch.isfinite(x_hat).all()
    except BitstreamError:
        pass
