from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from codomain.codecs import bitstream, picture
from codomain.codecs.coder import BitstreamError
from codomain.codecs.group_rvq import GroupResidualVQ
from codomain.codecs.load import load
from codomain.codecs.walloc import WaLLoC


@pytest.mark.parametrize(("name", "quality"), [("walloc-rgb-16x", 50.25), ("walloc-rgb-4x-fixed", None)])
def test_integers_of_a_file_times_steps_are_its_latents(photo: torch.Tensor, name: str, quality: float | None) -> None:
    codec = load(name)
    data = codec.compress(photo, quality=quality)
    symbols, index = codec.read_symbols(data)
    assert symbols.dtype == torch.int32 and symbols.shape == (1, codec.latent_dim, 38, 57)
    assert index == codec.quality_index(quality)
    assert not symbols.is_inference()  # a training step may save it for its gradient
    assert torch.equal(codec.bottleneck.from_symbols(symbols, index), codec.read_latents(data))
    assert torch.equal(symbols, codec.symbols(photo, index))


def test_integers_of_many_regions(codec: WaLLoC) -> None:
    x = torch.rand(1, 3, 800, 1600) * 2 - 1
    data = codec.compress(x)
    symbols, index = codec.read_symbols(data)
    assert len(bitstream.read(data).chunks) == 6
    assert torch.equal(symbols, codec.symbols(x, index))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(codec.read_symbols(data)[0], symbols)
    finally:
        torch.set_num_threads(threads)


def test_integers_of_the_first_stages(make_codec: Callable[..., WaLLoC], photo: torch.Tensor) -> None:
    codec = make_codec(latent_dim=6)
    codec.bottleneck = GroupResidualVQ(6, groups=2, stages=3, codebook_size=8, n_classes=2)
    codec.bottleneck.freeze_tables([codec.analysis(photo[..., :64, :64].float() / 127.5 - 1)[0]])
    codec.bottleneck.eval()
    data = codec.compress(photo)
    whole, _ = codec.read_symbols(data)
    assert whole.shape[1] == 6
    first, index = codec.read_symbols(data, stages=2)
    assert torch.equal(first, whole[:, :4])
    with torch.no_grad():
        assert torch.equal(codec.bottleneck.from_symbols(first, index), codec.read_latents(data, stages=2))
    with pytest.raises(ValueError, match="has 1 to 3 stages; found stages=99"):
        codec.read_symbols(data, stages=99)


@pytest.mark.parametrize("name", ["walloc-rgb-16x", "simvq-rgb"])
def test_files_do_not_depend_on_the_batch(photo: torch.Tensor, name: str) -> None:
    codec = load(name)
    side = 96 if name.startswith("walloc") else 40
    x = torch.cat([photo[..., i : i + side, 3 * i : 3 * i + side + 8] for i in range(0, 50, 10)])
    files = codec.compress_batch(x, sections={bitstream.ICC: b"profile"})
    assert len(set(files)) == 5
    assert files == [codec.compress(one[None], sections={bitstream.ICC: b"profile"}) for one in x]
    assert files[1:3] == codec.compress_batch(x[1:3], sections={bitstream.ICC: b"profile"})


def test_sound_in_batches(make_codec: Callable[..., WaLLoC]) -> None:
    codec, x = make_codec(1, 2, latent_dim=6), torch.rand(3, 2, 90) * 2 - 1
    assert codec.compress_batch(x) == [codec.compress(one[None]) for one in x]


def test_hostile_bytes(codec: WaLLoC, make_codec: Callable[..., WaLLoC]) -> None:
    data = codec.compress(torch.rand(1, 3, 40, 48) * 2 - 1)
    for cut in range(0, len(data), 7):
        with pytest.raises(BitstreamError):
            codec.read_symbols(data[:cut])
    for at in range(0, len(data), 5):
        with pytest.raises(BitstreamError):
            codec.read_symbols(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    file = bitstream.read(data)
    for chunk in (b"", b"\0", file.chunks[0][:-2], bytes(200)):
        with pytest.raises(BitstreamError):
            codec.read_symbols(bitstream.write(file.header, [chunk]))
    salvaged = bitstream.read(data[:-1], salvage=True)
    with pytest.raises(BitstreamError, match="missing"):
        picture.read_symbols(codec, salvaged, 1)
    assert not picture.latents(codec, salvaged, None).any()
    with pytest.raises(ValueError, match="reads pictures; this codec codes sound"):
        make_codec(1).read_symbols(data)
