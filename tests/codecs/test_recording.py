from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from codomain.codecs import bitstream, recording
from codomain.codecs.coder import BitstreamError
from codomain.codecs.resample import Resampler
from codomain.codecs.sound import Format
from codomain.codecs.walloc import WaLLoC

RATE = 44100


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bitstream.CHUNK, "sound", 64)


@pytest.fixture(scope="module")
def started(make_codec: Callable[..., WaLLoC]) -> WaLLoC:
    return make_codec(ndim=1, channels=2, latent_dim=8, level=4)


@pytest.fixture
def stereo(started: WaLLoC) -> WaLLoC:
    started.sample_rate = None
    return started


def sound(channels: int, n: int, seed: int = 0) -> np.ndarray:
    """As loud as what the codec started on: no latent but some are 0."""
    return np.random.default_rng(seed).uniform(-0.7, 0.7, (channels, n)).astype(np.float32)


def pieces(x: np.ndarray, length: int) -> Iterator[np.ndarray]:
    return (x[:, i : i + length] for i in range(0, x.shape[1], length))


def whole(codec: WaLLoC, data: bytes, *args: int) -> np.ndarray:
    return np.concatenate(list(recording.decompress(codec, bitstream.read(data), *args)), 1)


@pytest.mark.parametrize("rate", [None, 16000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_bytes_and_samples_do_not_depend_on_the_blocks(stereo: WaLLoC, rate: int | None, channels: int) -> None:
    stereo.sample_rate = rate
    x, form = sound(channels, 9001), Format(channels, 9001, RATE)
    data = recording.compress(stereo, [x], form)
    assert all(recording.compress(stereo, pieces(x, n), form) == data for n in (9000, 517))
    y = whole(stereo, data)
    assert y.shape == x.shape
    for start, stop in ((0, 1), (1, 3000), (4500, 4501), (3333, 7777), (9000, 9001)):
        assert np.array_equal(whole(stereo, data, start, stop), y[:, start:stop])


def test_a_file_holds_what_encode_and_decode_say(stereo: WaLLoC) -> None:
    x = sound(2, 5000)
    data = recording.compress(stereo, pieces(x, 777), Format(2, 5000, RATE))
    y = stereo.encode(torch.from_numpy(x)[None])
    assert torch.equal(stereo.read_latents(data), y)
    assert np.array_equal(whole(stereo, data), stereo.decode(y)[0, :, :5000].numpy())
    assert data == stereo.compress(torch.from_numpy(x)[None], sample_rate=RATE, depth=16)
    assert np.array_equal(stereo.decompress(data)[0].numpy(), whole(stereo, data))


@pytest.mark.parametrize("n", [1, 15, 16, 17, 1024, 1025])
@pytest.mark.parametrize("rate", [None, 16000])
def test_any_length_comes_back(stereo: WaLLoC, n: int, rate: int | None) -> None:
    stereo.sample_rate = rate
    x = np.full((2, n), 0.25, np.float32)
    y = whole(stereo, recording.compress(stereo, [x], Format(2, n, RATE)))
    assert y.shape == (2, n)
    assert np.isfinite(y).all()


def test_mono_through_a_stereo_codec_is_the_mean_of_both(stereo: WaLLoC) -> None:
    x = sound(1, 3000)
    y = whole(stereo, recording.compress(stereo, [x], Format(1, 3000, RATE)))
    both = whole(stereo, recording.compress(stereo, [np.repeat(x, 2, 0)], Format(2, 3000, RATE)))
    assert np.abs(y[0] - both.mean(0)).max() < 1e-6


def test_more_channels_are_coded_two_by_two(stereo: WaLLoC) -> None:
    x = sound(4, 3000)
    four = whole(stereo, recording.compress(stereo, [x], Format(4, 3000, RATE)))
    for pair in (slice(0, 2), slice(2, 4)):
        two = whole(stereo, recording.compress(stereo, [x[pair]], Format(2, 3000, RATE)))
        assert np.abs(four[pair] - two).max() < 1e-5


def test_a_rate_of_the_codecs_own_is_resampled_to_and_from(stereo: WaLLoC) -> None:
    x, form = sound(2, 5000), Format(2, 5000, RATE)
    stereo.sample_rate = 22050
    y = whole(stereo, recording.compress(stereo, [x], form))
    there, back = Resampler(RATE, 22050), Resampler(22050, RATE)
    slow = there(x, 0, 0, there.length(5000))
    decoded = stereo.decode(stereo.encode(torch.from_numpy(slow)[None]))[0, :, : slow.shape[1]].numpy()
    expected = np.clip(back(decoded, 0, 0, 5000), -1, 1)
    assert np.abs(y - expected)[:, :-100].max() < 1e-6  # clipped to [-1, 1] once, not twice, but at the end


def test_only_the_chunks_that_are_needed_are_read(stereo: WaLLoC) -> None:
    x, form = sound(2, 9001), Format(2, 9001, RATE)
    data = recording.compress(stereo, [x], form)
    file = bitstream.read(data)
    layout = recording.layout_of(stereo, file)
    regions = layout.looked_at(layout.needed(100, 600))
    assert len(regions) < len(layout.regions) / 2
    part = bitstream.read(data, wanted={layout.chunk(0, i, 0) for i in regions})
    assert [chunk is None for chunk in part.chunks] == [i not in regions for i in range(len(file.chunks))]
    found = np.concatenate(list(recording.decompress(stereo, part, 100, 600)), 1)
    assert np.array_equal(found, whole(stereo, data, 100, 600))


def test_integers_are_of_the_regions_that_are_asked_for(stereo: WaLLoC) -> None:
    x = sound(2, 9001)
    data = recording.compress(stereo, [x], Format(2, 9001, RATE))
    layout = recording.layout_of(stereo, bitstream.read(data))
    part = bitstream.read(data, wanted={2, 3})
    parts = list(recording.symbols(layout, part, range(2, 4)))
    y = stereo.bottleneck.from_symbols(torch.cat(parts, -1)[None], 0)
    start, stop = layout.regions[2].start, layout.regions[3].stop
    assert torch.equal(y, stereo.read_latents(data)[..., start:stop])


def test_a_damaged_chunk_is_silence(stereo: WaLLoC) -> None:
    x, form = sound(2, 9001), Format(2, 9001, RATE)
    data = bytearray(recording.compress(stereo, [x], form))
    data[len(data) // 2] ^= 1
    with pytest.raises(BitstreamError, match=r"chunk .* of .* is damaged"):
        bitstream.read(bytes(data))
    file = bitstream.read(bytes(data), salvage=True)
    region = recording.layout_of(stereo, file).regions[file.chunks.index(None)]
    assert not stereo._latents(file)[..., region].any()
    y = np.concatenate(list(recording.decompress(stereo, file)), 1)
    intact = whole(stereo, recording.compress(stereo, [x], form))
    changed = np.flatnonzero((y != intact).any(0)) / stereo.stride
    assert region.start - stereo.synthesis_halo <= changed[0] < region.start + 1
    assert region.stop - 1 < changed[-1] <= region.stop + stereo.synthesis_halo


def test_blocks_are_what_the_format_says(stereo: WaLLoC) -> None:
    x = sound(2, 3000)
    for blocks, said in (
        ([x[:, :2000]], "ends after 2000 of 3000"), ([x, x[:, :5]], "expected 3000 samples; found 3005"),
        ([x[:1]], r"expected blocks \(2, n\); found \(1, 3000\)"), ([x * np.nan], "found NaN"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            recording.compress(stereo, blocks, Format(2, 3000, RATE))


def test_headers_of_another_length_are_refused(stereo: WaLLoC) -> None:
    file = bitstream.read(recording.compress(stereo, [sound(2, 3000)], Format(2, 3000, RATE)))
    header = bitstream.Header("sound", file.header.model, (2, 9000, RATE), 16)
    longer = bitstream.read(bitstream.write(header, [c for c in file.chunks if c is not None]))
    with pytest.raises(BitstreamError, match="chunks; a recording of this length has"):
        list(recording.decompress(stereo, longer))


def test_silence_and_full_scale_stay_within_it(stereo: WaLLoC) -> None:
    for level in (0.0, 1.0, -1.0):
        x = np.full((2, 4000), level, np.float32)
        y = whole(stereo, recording.compress(stereo, [x], Format(2, 4000, RATE)))
        assert y.shape == x.shape
        assert np.abs(y).max() <= 1


@pytest.mark.parametrize("rate", [1, 999, 768_001, (1 << 40) - 1])
def test_no_rate_beyond_those_of_sound_is_resampled(stereo: WaLLoC, rate: int) -> None:
    """A filter as long as the header asks for would be memory for the asking."""
    x, form = sound(2, 50), Format(2, 50, rate)
    data = recording.compress(stereo, [x], form)
    assert whole(stereo, data).shape == x.shape  # a codec without a rate of its own takes any
    stereo.sample_rate = 16000
    for code in (lambda: whole(stereo, data), lambda: recording.compress(stereo, [x], form)):
        with pytest.raises(BitstreamError, match=f"a sample rate of {rate} Hz; 1000 to 768000 are resampled"):
            code()


def test_what_sees_the_whole_is_computed_once(stereo: WaLLoC, monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec without halos is not run anew for every chunk."""
    x, form = sound(2, 9001), Format(2, 9001, RATE)
    calls: list[str] = []

    def counted(name: str) -> None:
        method = getattr(stereo, name)
        monkeypatch.setattr(stereo, name, lambda *args: calls.append(name) or method(*args))

    monkeypatch.setattr(stereo, "analysis_halo", None)
    monkeypatch.setattr(stereo, "synthesis_halo", None)
    counted("analysis"), counted("synthesis")
    data = recording.compress(stereo, [x], form)
    assert len(bitstream.read(data).chunks) > 4
    y = whole(stereo, data)
    assert calls == ["analysis", "synthesis"]
    assert np.array_equal(y[:, 3000:3100], whole(stereo, data, 3000, 3100))
    decoded = stereo.decode(stereo.encode(torch.from_numpy(x)[None]))[0, :, :9001].numpy()
    assert np.abs(y - decoded).max() < 1e-5


def test_silence_is_silent_and_other_bytes_stay_as_they_were(stereo: WaLLoC, monkeypatch: pytest.MonkeyPatch) -> None:
    bias = torch.nn.Parameter(torch.full_like(stereo.decoder.linear.bias, 0.05), requires_grad=False)
    monkeypatch.setattr(stereo.decoder.linear, "bias", bias)  # as after training: silence is not decoded as such
    n = 64 * 16
    loud, nothing = sound(2, 3 * n), np.zeros((2, 6 * n), np.float32)

    def coded(*parts: np.ndarray) -> tuple[bytes, np.ndarray]:
        x = np.concatenate(parts, 1)
        data = recording.compress(stereo, [x], Format(2, x.shape[1], RATE))
        return data, whole(stereo, data)

    assert not coded(nothing)[1].any()
    data, y = coded(loud, nothing, loud)
    reach = 16 * (stereo.analysis_halo + stereo.synthesis_halo + 1)
    assert bitstream.Flag.SILENCE in bitstream.read(data).header.flags
    assert not y[:, 3 * n + reach : 9 * n - reach].any() and y[:, 3 * n : 3 * n + reach].any()
    assert np.array_equal(whole(stereo, data, 4 * n, 10 * n), y[:, 4 * n : 10 * n])  # whatever the parts
    file = bitstream.read(data)
    unflagged = bitstream.write(replace(file.header, flags=bitstream.NO_FLAGS), file.chunks)
    before = whole(stereo, unflagged)  # a file that was made before there was the flag
    assert np.abs(before[:, 4 * n : 8 * n]).mean() > 0.01
    assert np.array_equal(before[:, : 3 * n], y[:, : 3 * n])
    assert bitstream.read(coded(loud)[0]).header.flags == bitstream.NO_FLAGS
