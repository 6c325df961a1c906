"""Recording: sound of any length, rate and number of channels through a codec of one axis, chunk by chunk.

    blocks --resample--> signals of the codec's channels --analysis, a chunk and its halo--> symbols --> payloads
    payloads --> latents --synthesis, a chunk and its halo--> signals --resample--> blocks

Every chunk is analysed and synthesised in the same window, however long the blocks are and wherever decoding starts:
the same bytes, and the same samples. Memory does not grow with the recording, but for its compressed bytes.

No network decodes silence to nothing: of a file that says it holds silence, samples that depend on latents of silence
alone are 0.

A codec of ``n`` channels codes a recording of more as ceil(channels / n) signals; what the last one lacks are copies
of its last channel, whose mean is decoded. So mono goes through a stereo codec, and stereo through a mono one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from codomain.codecs import bitstream
from codomain.codecs.bitstream import NO_FLAGS, File, Flag, Header
from codomain.codecs.coder import BitstreamError
from codomain.codecs.resample import Resampler
from codomain.codecs.sound import Format
from jaxtyping import Bool, Float, Int32
from torch import Tensor

if TYPE_CHECKING:
    from codomain.codecs.codec import Codec

BATCH = 8  # chunks that are coded at once, a thread each


class Layout:
    """Where the chunks of a recording lie in time and in the file.

    Attributes:
        codec, form: whose, and of what.
        samples: of each signal, at the codec's rate.
        grid: latents of each signal.
        regions: slices of the grid, one a chunk.
        signals: that the channels are coded as.
    """

    def __init__(self, codec: Codec, form: Format) -> None:
        self.codec, self.form = codec, form
        rate = codec.sample_rate or form.sample_rate
        self.inward, self.outward = Resampler(form.sample_rate, rate), Resampler(rate, form.sample_rate)
        self.samples = self.inward.length(form.samples)
        self.grid = -(-self.samples // codec.stride)
        self.regions = [region for (region,) in bitstream.tiles([self.grid], bitstream.CHUNK["sound"])]
        self.signals = -(-form.channels // codec.channels)

    @property
    def n_chunks(self) -> int:
        """Chunks of all layers."""
        return self.codec.bottleneck.layers * len(self.regions) * self.signals

    def chunk(self, layer: int, region: int, signal: int) -> int:
        """Return the place of a chunk in the file."""
        return (layer * len(self.regions) + region) * self.signals + signal

    def wide(self, region: slice, halo: int | None) -> slice:
        """Return a region and its halo, as far as the grid goes."""
        if halo is None:
            return slice(0, self.grid)
        return slice(max(0, region.start - halo), min(self.grid, region.stop + halo))

    def needed(self, start: int, stop: int) -> range:
        """Return the regions whose synthesis gives samples [start, stop) of the recording."""
        first, last = self.outward.needs(start, stop)
        stride = self.codec.stride
        inside = [i for i, r in enumerate(self.regions) if r.stop * stride > first and r.start * stride < last]
        return range(inside[0], inside[-1] + 1)

    def looked_at(self, regions: range) -> range:
        """Return the regions whose latents the synthesis of ``regions`` looks at."""
        halo = self.codec.synthesis_halo
        first, last = self.wide(self.regions[regions[0]], halo).start, self.wide(self.regions[regions[-1]], halo).stop
        inside = [i for i, r in enumerate(self.regions) if r.stop > first and r.start < last]
        return range(inside[0], inside[-1] + 1)

    def to_signals(self, x: Float[np.ndarray, "c n"]) -> Float[Tensor, "s k n"]:
        """Return channels as signals of the codec's channels."""
        lacking = self.signals * self.codec.channels - len(x)
        full = np.concatenate([x, *[x[-1:]] * lacking])
        signals: Tensor = torch.from_numpy(np.ascontiguousarray(full, np.float32)).unflatten(0, (self.signals, -1))
        return signals

    def to_channels(self, x: Float[Tensor, "s k n"]) -> Float[np.ndarray, "c n"]:
        """Invert `to_signals`."""
        planes = x.flatten(0, 1)
        last = self.form.channels - 1
        kept = torch.cat((planes[:last], planes[last:].mean(0, keepdim=True))) if len(planes) > last + 1 else planes
        channels: np.ndarray = kept.cpu().numpy()
        return channels


@torch.inference_mode()
def compress(
    codec: Codec,
    blocks: Iterable[Float[np.ndarray, "c _"]],
    form: Format,
    index: int = 0,
    sections: Mapping[int, bytes] | None = None,
) -> bytes:
    """Return the bytes of the `.cdm` file of a recording.

    Args:
        codec: to code with.
        blocks: the recording, from its beginning to its end, in pieces of any length.
        form: of the recording.
        index: of the quality, as `Codec.quality_index` returns it.
        sections: carried in the file.

    Raises:
        ValueError: if the blocks are not such a recording, or hold NaN or infinity.
    """
    header = Header(
        "sound", codec.digest, (form.channels, form.samples, form.sample_rate), form.depth, index,
        Flag.FLOAT if form.is_float else NO_FLAGS,
    )  # fmt: skip
    codec.check_header(header)
    layout, silence = Layout(codec, form), _silence(codec, index)
    is_silent = False
    payloads: list[list[bytes]] = []  # of each chunk, by region and signal: one a layer
    parts: list[Tensor] = []
    for symbols in _symbols(layout, blocks, index):
        if silence is not None:
            is_silent |= bool(_depend_on(silence, codec.bottleneck.from_symbols(symbols, index), codec).any())
        parts += list(symbols)
        if len(parts) >= BATCH:
            payloads += codec.bottleneck.encode_chunks(parts, index)
            parts = []
    if parts:
        payloads += codec.bottleneck.encode_chunks(parts, index)
    chunks = [layers[layer] for layer in range(codec.bottleneck.layers) for layers in payloads]
    if is_silent:
        header = replace(header, flags=header.flags | Flag.SILENCE)
    return bitstream.write(header, chunks, sections)


def _silence(codec: Codec, index: int) -> Float[Tensor, "1 d 1"] | None:
    """Return the latent of silence far from sound; None of a codec that sees the whole, or decodes it in stages."""
    if codec.analysis_halo is None or codec.synthesis_halo is None or codec.bottleneck.layers > 1:
        return None
    positions = 2 * codec.analysis_halo + 1
    x = torch.zeros(1, codec.channels, positions * codec.stride, device=codec.device)
    y = codec.bottleneck.from_symbols(codec.symbols(x, index), index)
    return y[..., positions // 2 : positions // 2 + 1]


def _depend_on(latent: Float[Tensor, "1 d 1"], y: Float[Tensor, "s d n"], codec: Codec) -> Bool[Tensor, "s 1 n"]:
    """Return where synthesis looks at nothing but one latent; beyond ``y`` it is taken to be that."""
    assert codec.synthesis_halo is not None
    others = (y != latent).any(1, keepdim=True).float()
    return F.max_pool1d(others, 2 * codec.synthesis_halo + 1, 1, codec.synthesis_halo) == 0


def silent_samples(codec: Codec, y: Float[Tensor, "s d n"], index: int) -> Bool[Tensor, "s 1 t"]:
    """Return which samples depend on silence alone: what `decompress` makes zeros in a file of the flag."""
    latent = _silence(codec, index)
    if latent is None:
        return torch.zeros(len(y), 1, y.shape[-1] * codec.stride, dtype=torch.bool, device=y.device)
    return _depend_on(latent, y, codec).repeat_interleave(codec.stride, -1)


def _symbols(
    layout: Layout, blocks: Iterable[Float[np.ndarray, "c _"]], index: int
) -> Iterator[Int32[Tensor, "s d _"]]:
    """Yield the integers of every region."""
    codec, window = layout.codec, _Window(blocks, layout.form)
    analysed = slice(0, 0)
    for region in layout.regions:
        wide = layout.wide(region, codec.analysis_halo)
        if wide != analysed:  # without a halo it is the whole, once
            start, stop = wide.start * codec.stride, min(wide.stop * codec.stride, layout.samples)
            at, end = layout.inward.needs(start, stop)
            x = layout.to_signals(layout.inward(window.read(at, end), window.start, start, stop)).to(codec.device)
            x = F.pad(x, (0, (wide.stop - wide.start) * codec.stride - x.shape[-1]), mode="replicate")
            y, analysed = codec.analysis(x), wide
        yield codec.bottleneck.to_symbols(y[..., region.start - wide.start : region.stop - wide.start], index)
    window.finish()


class _Window:
    """Samples of a stream of blocks; what lies before the last reading is forgotten."""

    def __init__(self, blocks: Iterable[Float[np.ndarray, "c _"]], form: Format) -> None:
        self.blocks, self.form = iter(blocks), form
        self.start, self.held = 0, np.zeros((form.channels, 0), np.float32)

    def read(self, start: int, stop: int) -> Float[np.ndarray, "c n"]:
        """Return what is held, which includes [start, stop) as far as the recording goes."""
        kept = [self.held[:, max(0, start - self.start) :]]
        self.start, have = max(self.start, start), kept[0].shape[1]
        while self.start + have < min(stop, self.form.samples):
            block = next(self.blocks, None)
            if block is None:
                raise ValueError(f"ends after {self.start + have} of {self.form.samples} samples")
            if block.ndim != 2 or len(block) != self.form.channels:
                raise ValueError(f"expected blocks ({self.form.channels}, n); found {block.shape}")
            kept.append(block)
            have += block.shape[1]
        self.held = np.concatenate(kept, 1)
        return self.held

    def finish(self) -> None:
        """Refuse samples beyond the announced ones."""
        more = self.start + self.held.shape[1] + sum(block.shape[1] for block in self.blocks)
        if more != self.form.samples:
            raise ValueError(f"expected {self.form.samples} samples; found {more}")


def form_of(header: Header) -> Format:
    """Return what a file's header says of its recording."""
    channels, samples, sample_rate = header.shape
    return Format(channels, samples, sample_rate, header.depth, Flag.FLOAT in header.flags)


def layout_of(codec: Codec, file: File) -> Layout:
    """Return the layout of a parsed file.

    Raises:
        BitstreamError: if it is not such a codec's.
    """
    codec.check_header(file.header)
    layout = Layout(codec, form_of(file.header))
    if layout.n_chunks != len(file.chunks):
        raise BitstreamError(f"{len(file.chunks)} chunks; a recording of this length has {layout.n_chunks}")
    return layout


@torch.inference_mode()
def decompress(
    codec: Codec,
    file: File,
    start: int = 0,
    stop: int | None = None,
    stages: int | None = None,
    fast: bool = False,
) -> Iterator[Float[np.ndarray, "c _"]]:
    """Yield samples [start, stop) of a recording, in blocks of whatever length.

    Args:
        codec: that made the file.
        file: parsed; chunks that are not needed may be None.
        start, stop: samples of the recording; by default all.
        stages: how many layers of a residual quantizer are used; by default all that the file holds.
        fast: `preview` in place of `synthesis`.

    Raises:
        BitstreamError: if a chunk's bytes are damaged.
    """
    layout = layout_of(codec, file)
    stop = layout.form.samples if stop is None else stop
    regions = layout.needed(start, stop)
    first, at = layout.regions[regions[0]].start * codec.stride, start
    held = np.zeros((layout.form.channels, 0), np.float32)
    for i, x in zip(regions, _synthesise(layout, file, regions, stages, fast), strict=True):
        held = np.concatenate((held, layout.to_channels(x)), 1)
        end = layout.regions[i].stop * codec.stride
        whole = min(layout.samples, end)
        held = held[:, : whole - first]
        ready = stop if i == regions[-1] else min(stop, _complete(layout.outward, whole))
        if ready > at:
            yield np.clip(layout.outward(held, first, at, ready), -1, 1)
            at = ready
            forgotten = max(0, layout.outward.needs(at, at + 1)[0] - first)
            held, first = held[:, forgotten:], first + forgotten


def _complete(resampler: Resampler, samples: int) -> int:
    """Return how many output samples depend on the first ``samples`` input samples alone."""
    return max(0, (samples - 1 - resampler.reach) * resampler.up // resampler.down)


def _synthesise(
    layout: Layout, file: File, regions: range, stages: int | None, fast: bool
) -> Iterator[Float[Tensor, "s k _"]]:
    """Yield the signals of regions."""
    codec, index = layout.codec, file.header.quality
    quality = torch.full((layout.signals,), index / 4, device=codec.device) if codec.bottleneck.has_rates else None
    silence = _silence(codec, index) if Flag.SILENCE in file.header.flags else None
    source = latents(layout, file, layout.looked_at(regions), stages)
    start, y = next(source)
    synthesised = slice(0, 0)
    for i in regions:
        region = layout.regions[i]
        wide = layout.wide(region, codec.synthesis_halo)
        while start + y.shape[-1] < wide.stop:
            y = torch.cat((y, next(source)[1]), -1)
        y, start = y[..., wide.start - start :], wide.start
        if wide != synthesised:
            part = y[..., : wide.stop - start]
            x, synthesised = codec.preview(part) if fast else codec.synthesis(part, quality), wide
            if silence is not None:
                x = x.masked_fill(_depend_on(silence, part, codec).repeat_interleave(codec.stride, -1), 0)
        yield x[..., (region.start - start) * codec.stride : (region.stop - start) * codec.stride]


def latents(
    layout: Layout, file: File, regions: range, stages: int | None = None
) -> Iterator[tuple[int, Float[Tensor, "s d _"]]]:
    """Yield where a region starts and its latents, region by region, by entropy decoding alone.

    Raises:
        BitstreamError: if a chunk's bytes are damaged.
    """
    codec, index, signals = layout.codec, file.header.quality, layout.signals
    per_batch = max(1, BATCH // signals)
    for low in range(regions.start, regions.stop, per_batch):
        batch = range(low, min(low + per_batch, regions.stop))
        chunks = [
            [file.chunks[layout.chunk(n, i, s)] for n in range(codec.bottleneck.layers)]
            for i in batch
            for s in range(signals)
        ]
        sizes = [[layout.regions[i].stop - layout.regions[i].start] for i in batch for _ in range(signals)]
        parts = list(codec.region_latents(chunks, sizes, index, stages))
        for n, i in enumerate(batch):
            yield layout.regions[i].start, torch.cat(parts[n * signals : (n + 1) * signals])


def symbols(layout: Layout, file: File, regions: range) -> Iterator[Int32[Tensor, "n _"]]:
    """Yield the integers of regions of a recording of one signal, on the CPU: for loaders.

    ``codec.bottleneck.from_symbols`` of them, at the quality index of the header, is what `latents` yields.

    Raises:
        BitstreamError: if a chunk's bytes are damaged.
    """
    bottleneck, index = layout.codec.bottleneck, file.header.quality
    payloads = [[file.chunks[layout.chunk(n, i, 0)] for n in range(bottleneck.layers)] for i in regions]
    sizes = [[layout.regions[i].stop - layout.regions[i].start] for i in regions]
    yield from bottleneck.read_chunks(payloads, sizes, index)  # type: ignore[arg-type]  # all are wanted, so none is None
