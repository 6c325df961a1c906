from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs import bitstream
from codomain.codecs.coder import BitstreamError
from codomain.codecs.encoding import Settings
from codomain.codecs.nerv_codec import NervCodec

GOLDEN = Path(__file__).parents[1] / "data" / "golden_1_nerv.cdm"
MEANS = [182.54, 180.51, 177.47, 172.39, 165.79, 159.33]
FORM = {"strides": (2, 2), "embedding": 4, "knot": 3, "time_levels": 6, "time_width": 4, "floor": 4}
FORMS = [
    {},
    {"chained": True},
    {"block": "plain", "activation": "gelu", "head": "rgb"},
    {"block": "sandwich", "embedding": 0, "strides": (4, 2), "head": "rgb"},
]


def clip(moving: Callable[..., list[np.ndarray]], frames: int = 9, width: int = 21, height: int = 15) -> torch.Tensor:
    return torch.from_numpy(np.stack(moving(frames, width, height))).permute(0, 3, 1, 2)[None]


def fitted(codec: NervCodec, x: torch.Tensor, epochs: float = 1.0, n_bytes: int = 5000) -> bytes:
    return codec.compress(x, settings=Settings(n_bytes, None, epochs), rate=Fraction(24))


@pytest.mark.parametrize("form", FORMS)
def test_there_and_back(moving: Callable[..., list[np.ndarray]], form: dict[str, object]) -> None:
    x, codec = clip(moving), NervCodec(**FORM | {"segment": 5} | form)
    data = fitted(codec, x)
    file = bitstream.read(data)
    whole = codec.decompress(data, dtype=torch.uint8)
    assert len(data) <= 5000
    assert whole.shape == x.shape
    assert file.header.shape == (21, 15, 9, 24, 1)
    assert (codec.decompress(data) - (whole.float() / 127.5 - 1)).abs().max() < 1e-6
    order = [7, 0, 8, 4, 5, 3]
    alone = torch.stack(list(codec.frames(file, order)))
    assert (alone.int() - whole[0, order].int()).abs().max() <= 1
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    other = codec.decompress(data, dtype=torch.uint8)
    torch.set_num_threads(threads)
    assert (other.int() - whole.int()).abs().max() <= 1
    if codec.form["embedding"]:
        grid = (2, 3) if codec.form["head"] == "yuv420" else (4, 6)
        knots = 3 + 3 if codec.chained else 2 + 3  # a chained network is as long as the longest
        assert codec.read_latents(data).shape == (1, 4, knots, *grid)
    else:
        with pytest.raises(ValueError, match="has no embeddings"):
            codec.read_latents(data)


def test_a_fit_is_learned(moving: Callable[..., list[np.ndarray]]) -> None:
    x, codec = clip(moving, 6, 24, 16), NervCodec(**FORM)
    x_hat = codec.decompress(fitted(codec, x, 40.0))
    assert (x_hat - (x.float() / 127.5 - 1)).square().mean() < 0.1 * (x.float() / 127.5 - 1).var()


@pytest.mark.parametrize(("frames", "width", "height"), [(1, 21, 15), (2, 1, 1), (3, 40, 3)])
def test_odd_clips(moving: Callable[..., list[np.ndarray]], frames: int, width: int, height: int) -> None:
    x = clip(moving, frames, width, height)
    codec = NervCodec(**FORM | {"strides": None})
    assert codec.decompress(fitted(codec, x)).shape == x.shape


def test_times_between_frames(moving: Callable[..., list[np.ndarray]]) -> None:
    codec = NervCodec(**FORM | {"segment": 5, "chained": True})
    file = bitstream.read(fitted(codec, clip(moving), 8.0))
    near, between, far = (f.float() for f in codec.frames(file, [1, 1.02, 2]))
    assert (between - near).abs().mean() < (far - near).abs().mean()
    last, stays, first = codec.frames(file, [3, 3.9, 4])
    assert torch.equal(last, stays) and not torch.equal(stays, first)
    for wrong in ([8.1], [0, float("nan")], [-0.5, 2]):
        with pytest.raises(ValueError, match="the clip has frames 0 to 8; found"):
            list(codec.frames(file, wrong))


@pytest.mark.parametrize("chained", [False, True])
def test_salvage_of_a_damaged_file(moving: Callable[..., list[np.ndarray]], chained: bool) -> None:
    codec = NervCodec(**FORM | {"segment": 5, "chained": chained})
    data = bytearray(fitted(codec, clip(moving)))
    whole = codec.decompress(bytes(data), dtype=torch.uint8)
    second = len(bitstream.read(bytes(data)).chunks[2]) + 4
    data[-second - 10] ^= 1  # in the first segment
    with pytest.raises(BitstreamError, match="chunk 2 of 3 is damaged"):
        codec.decompress(bytes(data))
    saved = codec.decompress(bytes(data), dtype=torch.uint8, salvage=True)
    assert (saved[0, :4] == 128).all()
    assert (saved[0, 4:] == 128).all() if chained else torch.equal(saved[0, 4:], whole[0, 4:])


def test_what_was_not_read_is_said(moving: Callable[..., list[np.ndarray]]) -> None:
    codec = NervCodec(**FORM | {"segment": 5})
    data = fitted(codec, clip(moving))
    file = bitstream.read(data, wanted={0, 2})
    assert len(list(codec.frames(file, [4, 8]))) == 2
    with pytest.raises(BitstreamError, match="segment 1 is missing"):
        list(codec.frames(file, [0]))
    assert file.chunks[2] is not None
    forged = bitstream.File(file.header, [file.chunks[0], b"x" * 900, file.chunks[2]])
    saved = list(codec.frames(forged, [3, 4], salvage=True))
    assert (saved[0] == 128).all() and torch.equal(saved[1], next(codec.frames(file, [4])))
    with pytest.raises(BitstreamError):
        next(codec.frames(forged, [3]))
    header = bitstream.Header("video", b"another.", file.header.shape)
    with pytest.raises(BitstreamError, match="the file holds video of"):
        list(codec.frames(bitstream.File(header, file.chunks)))


def test_a_network_larger_than_its_bytes_is_refused(moving: Callable[..., list[np.ndarray]]) -> None:
    codec = NervCodec(**FORM)
    file = bitstream.read(fitted(codec, clip(moving)))
    with pytest.raises(BitstreamError, match="segment 1 has 0 bytes"):
        list(codec.frames(bitstream.File(file.header, [file.chunks[0], b""])))


def test_bytes_that_decoded_once_decode_for_ever() -> None:
    """Written by this version; read by a fresh process."""
    code = (
        "import torch, sys; from codomain.codecs.nerv_codec import NervCodec\n"
        f"x = NervCodec().decompress(open({str(GOLDEN)!r}, 'rb').read(), dtype=torch.uint8)\n"
        "print(tuple(x.shape), *x[0].float().mean((1, 2, 3)).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shape, means = done.stdout.split(")")
    assert shape == "(1, 6, 3, 16, 24"
    np.testing.assert_allclose([float(mean) for mean in means.split()], MEANS, atol=0.5)


def test_where_it_lies_is_where_frames_are_made() -> None:
    """Its weights are in the files, so it has none of its own; frames are float32's, whatever it is cast to."""
    codec, data = NervCodec(), GOLDEN.read_bytes()
    assert (codec.device.type, codec.to("meta").device.type, list(codec.state_dict())) == ("cpu", "meta", [])
    there = "cuda" if torch.cuda.is_available() else "cpu"
    codec = NervCodec().half().to(there)
    assert codec.device.type == codec.read_latents(data).device.type == there
    x_hat = codec.decompress(data, dtype=torch.uint8)
    assert x_hat.device.type == there
    assert (x_hat.cpu().int() - NervCodec().decompress(data, dtype=torch.uint8).int()).abs().max() <= 1


def test_signals_that_are_no_clip() -> None:
    for shape in ((2, 3, 3, 8, 8), (1, 0, 3, 8, 8), (1, 3, 4, 8, 8)):
        with pytest.raises(ValueError, match="expected one clip"):
            NervCodec().compress(torch.zeros(shape))


def test_qualities_are_bits_per_pixel() -> None:
    codec = NervCodec()
    assert codec.settings((10, 100, 80)).n_bytes == 300
    assert codec.settings((10, 100, 80), 75.0).n_bytes == 1200
    assert codec.quality_index(75.0) == 300
