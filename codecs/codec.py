"""Codec: analysis -> bottleneck -> synthesis, and what all codecs share.

    x --analysis--> y --bottleneck--> y_hat --synthesis--> x_hat        tensors: encode, decode
    x ------------> symbols --coder--> chunks --bitstream--> bytes      files: compress, decompress

Everything runs tile by tile, so that memory does not grow with the signal but for the signal itself; and where the
weights lie, `Codec.to` moves them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from codomain.codecs import bitstream, picture, recording
from codomain.codecs.bitstream import NO_FLAGS, Flag, Header
from codomain.codecs.bottleneck import Bottleneck
from codomain.codecs.coder import BitstreamError
from codomain.codecs.picture import at, extended
from codomain.codecs.sound import RATES, Format
from codomain.kernels.analysis import from_float, to_float
from jaxtyping import Float, Int32, Shaped
from torch import Tensor, nn

DEFAULT_QUALITY = 50.0
# latents along each axis analysed, and decoded, at a time; of sound a chunk, as recordings are
ENCODE_TILE = {"image": 192, "sound": bitstream.CHUNK["sound"]}
DECODE_TILE = {"image": 128, "sound": bitstream.CHUNK["sound"]}


class CodecOutput(NamedTuple):
    """One training forward pass."""

    x_hat: Float[Tensor, "b c *space"]
    y_hat: Float[Tensor, "b d *grid"]
    bits: Float[Tensor, " b"]  # of each signal
    loss: Float[Tensor, ""]  # the bottleneck's own


class Codec(nn.Module):
    """A signal to latents, to bytes, and back.

    Signals are float32 in [-1, 1]; `encode` and `compress` also take uint8 or uint16 samples, which they
    scale tile by tile: a large picture need not exist in float32. Subclasses give `analysis`, `synthesis` and
    the attributes.

    Attributes:
        kind: "image", "sound" or "video".
        channels: of the signal.
        latent_dim: of the latents.
        ndim: axes after batch and channel.
        stride: signal positions per latent, along each axis.
        analysis_halo, synthesis_halo: how far, in latents, one output of either looks; None: everywhere.
        sample_rate: of sound, Hz, to which files are resampled; None: any.
        name, digest: which trained weights these are; set by `load`.
    """

    kind: str
    channels: int
    latent_dim: int
    ndim: int
    stride: int
    analysis_halo: int | None
    synthesis_halo: int | None
    sample_rate: int | None = None
    name: str = ""
    digest: bytes = bytes(8)
    _place: Tensor

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.register_buffer("_place", torch.empty(0), persistent=False)  # some codecs have no weights of their own

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and what is made with them; a GPU codes all chunks of a file at once."""
        return self._place.device

    def analysis(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d *grid"]:
        """Signal to unquantized latents (g_a); sides are multiples of `stride`."""
        raise NotImplementedError

    def synthesis(
        self, y_hat: Float[Tensor, "b d *grid"], quality: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c *space"]:
        """Quantized latents to signal (g_s)."""
        raise NotImplementedError

    def preview(self, y_hat: Float[Tensor, "b d *grid"]) -> Float[Tensor, "b c *space"]:
        """Quantized latents to signal, fast and less good; within the halo of `synthesis`.

        Raises:
            ValueError: if the codec has no such way.
        """
        raise ValueError(f"{self.name or type(self).__name__} has no fast decoder")

    def start(self, x: Float[Tensor, "n c *space"], bpp: float | None = None) -> None:
        """Set the parameters from sample signals before training, at about ``bpp`` bits per position."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "b c *space"], quality: Float[Tensor, " b"] | None = None) -> CodecOutput:
        """Code differentiably, for training."""
        y_hat, bits, loss = self.bottleneck(self.analysis(x), quality)
        return CodecOutput(self.synthesis(y_hat, quality), y_hat, bits, loss)

    @torch.inference_mode()
    def encode(self, x: Shaped[Tensor, "b c *space"], quality: float | None = None) -> Float[Tensor, "b d *grid"]:
        """Return the latents that a task learns from: quantized, as `read_latents` returns them.

        Any size: a side that is no multiple of `stride` is extended by its last sample.

        Args:
            x: signals.
            quality: 1 to 100 in quarters, of a codec with many rates; by default `DEFAULT_QUALITY`.

        Raises:
            ValueError: for a wrong shape, dtype or channel count, an empty signal, NaN or infinity, a quality that
                the codec does not have.
        """
        self._check_signal(x)
        index = self.quality_index(quality)
        return self.bottleneck.from_symbols(self.symbols(x, index), index)

    @torch.inference_mode()
    def decode(
        self, y: Float[Tensor, "b d *grid"], tile: int | None = None, quality: float | None = None
    ) -> Float[Tensor, "b c *space"]:
        """Return the signal, clamped to [-1, 1]; each side is `stride` times the grid's.

        Args:
            y: latents of `encode` or `read_latents`.
            quality: that of `encode`: how coarsely they were quantized.
            tile: latents along each axis decoded at a time; changes memory, not the result.

        Raises:
            ValueError: for a wrong shape or channel count.
        """
        self._check_latents(y)
        index = self.quality_index(quality)
        return self._decode(y, [n * self.stride for n in y.shape[2:]], torch.float32, index, tile)

    def compress(
        self,
        x: Shaped[Tensor, "b c *space"],
        *,
        quality: float | None = None,
        depth: int = 8,
        flags: Flag = NO_FLAGS,
        sections: Mapping[int, bytes] | None = None,
        sample_rate: int = 44100,
    ) -> bytes:
        """Return the bytes of one `.cdm` file.

        Args:
            x: one signal; of sound, any number of channels.
            quality: as of `encode`.
            depth, flags, sections: carried in the file, see `codecs/bitstream.py`.
            sample_rate: of sound, in Hz; it is resampled, if the codec has a rate of its own.

        Raises:
            ValueError: as `encode`; also for a batch, or weights without tables.
        """
        if len(x) > 1:
            raise ValueError(f"compress takes one signal, b = 1; found {tuple(x.shape)}")
        return self.compress_batch(
            x, quality=quality, depth=depth, flags=flags, sections=sections, sample_rate=sample_rate
        )[0]

    @torch.inference_mode()
    def compress_batch(
        self,
        x: Shaped[Tensor, "b c *space"],
        *,
        quality: float | None = None,
        depth: int = 8,
        flags: Flag = NO_FLAGS,
        sections: Mapping[int, bytes] | None = None,
        sample_rate: int = 44100,
    ) -> list[bytes]:
        """Return the bytes of a `.cdm` file of every signal: those of `compress`, in less time where they are small.

        Args:
            x: signals.
            quality, depth, flags, sections, sample_rate: of each, as of `compress`.

        Raises:
            ValueError: as `compress`.
        """
        self._check_signal(x, x.shape[1] if self.kind == "sound" and x.dim() == 3 else self.channels)
        index = self.quality_index(quality)
        if self.kind == "sound":
            form = Format(x.shape[1], x.shape[2], sample_rate, depth, Flag.FLOAT in flags)
            signals = to_float(x).cpu().numpy()
            return [recording.compress(self, [signal], form, index, sections) for signal in signals]
        header = Header(self.kind, self.digest, (*reversed(x.shape[2:]),), depth, index, flags)
        return picture.compress(self, x, header, sections)

    def decompress(
        self,
        data: bytes | memoryview,
        *,
        dtype: torch.dtype = torch.float32,
        salvage: bool = False,
        fast: bool = False,
        stages: int | None = None,
    ) -> Shaped[Tensor, "1 c *space"]:
        """Return the signal of a file, of the size that was compressed.

        Args:
            data: the file's bytes.
            dtype: torch.float32 for [-1, 1], torch.uint8 or torch.uint16 for samples of that depth.
            salvage: decode damaged chunks as far as their first stages go, or as latents of 0, flat grey or silence,
                instead of failing.
            fast: `preview` in place of `synthesis`.
            stages: decode only the first ones, of a codec that has several.

        Raises:
            BitstreamError: whatever else the bytes are.
            ValueError: for a number of stages that the codec does not have.
        """
        file = bitstream.read(data, salvage)
        return self.decompress_file(file, dtype, fast, stages)

    @torch.inference_mode()
    def decompress_file(
        self, file: bitstream.File, dtype: torch.dtype, fast: bool = False, stages: int | None = None
    ) -> Shaped[Tensor, "1 c *space"]:
        """Return the signal of a file that `bitstream.read` has parsed."""
        if self.kind == "sound":
            blocks = list(recording.decompress(self, file, stages=stages, fast=fast))
            return from_float(torch.from_numpy(np.concatenate(blocks, 1))[None], dtype)
        self.check_header(file.header)
        width, height = file.header.shape
        return self._decode(self._latents(file, stages), [height, width], dtype, file.header.quality, None, fast)

    def symbols(self, x: Shaped[Tensor, "b c *space"], index: int) -> Int32[Tensor, "b s *grid"]:
        """Return the integers that a signal is coded as, at a quality index; tile by tile."""
        grid = picture.grid_of(self, x.shape[2:])
        symbols = torch.empty(len(x), self.bottleneck.n_symbols, *grid, dtype=torch.int32, device=self.device)
        for region in bitstream.tiles(grid, max(grid) if self.analysis_halo is None else ENCODE_TILE[self.kind]):
            wide, inner = extended(region, grid, self.analysis_halo)
            part = to_float(x[at(slice(r.start * self.stride, r.stop * self.stride) for r in wide)].to(self.device))
            lacking = [(r.stop - r.start) * self.stride - n for r, n in zip(wide, part.shape[2:], strict=True)]
            if any(lacking):
                part = F.pad(part, [m for n in reversed(lacking) for m in (0, n)], mode="replicate")
            symbols[at(region)] = self.bottleneck.to_symbols(self.analysis(part)[at(inner)], index)
        return symbols

    def in_one_pass(self, x: Shaped[Tensor, "b c *space"], index: int) -> bool:
        """Whether `symbols` gives each signal of a batch the integers that it has alone."""
        return False

    def quality_index(self, quality: float | None) -> int:
        """Return what a file's header says of a quality: four times it, 0 for a codec of one rate.

        Raises:
            ValueError: for a quality that the codec does not have.
        """
        if not self.bottleneck.has_rates:
            if quality is not None:
                raise ValueError(f"{self.name or 'this codec'} has one rate; found quality {quality:g}")
            return 0
        index = 4 * (DEFAULT_QUALITY if quality is None else quality)
        if not 4 <= index <= 400 or index != round(index):
            raise ValueError(f"quality is 1 to 100, in quarters; found {quality:g}")
        return round(index)

    @torch.inference_mode()
    def read_latents(self, data: bytes | memoryview, stages: int | None = None) -> Float[Tensor, "b d *grid"]:
        """Return the latents of a file by entropy decoding alone: what a task trains on.

        b is 1; of sound of more channels than the codec's, the number of signals that it is coded as.

        Args:
            data: the file's bytes.
            stages: as of `decompress`.

        Raises:
            BitstreamError: whatever else the bytes are.
            ValueError: for a number of stages that the codec does not have.
        """
        if self.kind == "image" and self.device.type == "cpu":
            return self.bottleneck.from_symbols(*self.read_symbols(data, stages))
        return self._latents(bitstream.read(data), stages)

    def read_symbols(
        self, data: bytes | memoryview, stages: int | None = None
    ) -> tuple[Int32[Tensor, "1 s *grid"], int]:
        """Return the integers of a picture's file, and the index of its quality, on the CPU: for loaders.

        ``codec.bottleneck.from_symbols(symbols, index)`` is `read_latents`, on any device.

        Args:
            data: the file's bytes.
            stages: as of `decompress`; of fewer, only their symbols.

        Raises:
            BitstreamError, ValueError: as `read_latents`; also for a codec of sound.
        """
        if self.kind != "image":
            raise ValueError(f"read_symbols reads pictures; {self.name or 'this codec'} codes {self.kind}")
        file = bitstream.read(data)
        return picture.read_symbols(self, file, self.check_stages(stages)), file.header.quality

    def check_stages(self, stages: int | None) -> int:
        """Return how many layers of a file are wanted.

        Raises:
            ValueError: for a number of stages that the codec does not have.
        """
        layers = self.bottleneck.layers
        if stages is None or (layers > 1 and 1 <= stages <= layers):
            return stages or layers
        has = f"1 to {layers} stages" if layers > 1 else "no stages"
        raise ValueError(f"{self.name or 'this codec'} has {has}; found stages={stages}")

    def check_header(self, header: Header) -> None:
        """Refuse the header of a file of another codec, or of a rate that this one does not have.

        Raises:
            BitstreamError: says what the file holds.
        """
        if header.model != self.digest:
            raise BitstreamError(
                f"the file was made by weights {header.model.hex()}; {self.name or 'this codec'} is {self.digest.hex()}"
            )
        if header.kind != self.kind:
            raise BitstreamError(f"the file holds {header.kind}; {self.name} decodes {self.kind}")
        if (not 4 <= header.quality <= 400) if self.bottleneck.has_rates else header.quality:
            rates = "4 to 400" if self.bottleneck.has_rates else 0
            raise BitstreamError(f"quality index {header.quality}; {self.name} has {rates}")
        if self.sample_rate is not None and not RATES[0] <= header.shape[2] <= RATES[1]:
            raise BitstreamError(f"a sample rate of {header.shape[2]} Hz; {RATES[0]} to {RATES[1]} are resampled")

    def region_latents(
        self,
        chunks: Sequence[Sequence[bytes | None]],
        sizes: Sequence[Sequence[int]],
        index: int,
        stages: int | None = None,
    ) -> Iterator[Float[Tensor, "1 d *_"]]:
        """Yield the latents of regions of the grid by entropy decoding.

        Args:
            chunks: of each region one a layer. A missing one, of a salvaged file, hides those behind it; a region
                without the first has latents of 0.
            sizes: sides of each region.
            index: of the quality.
            stages: as of `decompress`.

        Raises:
            BitstreamError: if the bytes of a chunk are damaged.
        """
        wanted = self.check_stages(stages)
        payloads = [list(takewhile(lambda chunk: chunk is not None, layers[:wanted])) for layers in chunks]
        found = [i for i, layers in enumerate(payloads) if layers]
        intact = [[chunk for chunk in payloads[i] if chunk is not None] for i in found]
        read = self.bottleneck.decode_chunks(intact, [sizes[i] for i in found], index, self.device)
        for layers, size in zip(payloads, sizes, strict=True):
            yield next(read) if layers else torch.zeros(1, self.latent_dim, *size, device=self.device)

    def _latents(self, file: bitstream.File, stages: int | None = None) -> Tensor:
        if self.kind == "sound":
            layout = recording.layout_of(self, file)
            return torch.cat([y for _, y in recording.latents(layout, file, range(len(layout.regions)), stages)], -1)
        return picture.latents(self, file, stages)

    def _decode(
        self, y: Tensor, space: list[int], dtype: torch.dtype, index: int, tile: int | None, fast: bool = False
    ) -> Tensor:
        x_hat = torch.empty(len(y), self.channels, *space, dtype=dtype, device=self.device)
        grid = list(y.shape[2:])
        side = max(grid) if self.synthesis_halo is None else tile or DECODE_TILE[self.kind]
        quality = torch.full((len(y),), index / 4, device=self.device) if self.bottleneck.has_rates else None
        for region in bitstream.tiles(grid, side):
            wide, inner = extended(region, grid, self.synthesis_halo)
            given = y[at(wide)].to(self.device)
            part = self.preview(given) if fast else self.synthesis(given, quality)
            inner = tuple(slice(r.start * self.stride, r.stop * self.stride) for r in inner)
            target = x_hat[at(slice(r.start * self.stride, r.stop * self.stride) for r in region)]
            source = part[at(inner)]
            target.copy_(from_float(source[at(slice(n) for n in target.shape[2:])], dtype))
        return x_hat

    def _check_signal(self, x: Tensor, channels: int | None = None) -> None:
        channels = channels or self.channels
        if x.dim() != self.ndim + 2 or x.shape[1] != channels or 0 in x.shape:
            axes = {1: "t", 2: "h, w", 3: "f, h, w"}[self.ndim]
            raise ValueError(f"expected a signal (b, {channels}, {axes}), not empty; found {tuple(x.shape)}")
        if x.dtype not in (torch.float32, torch.uint8, torch.uint16):
            raise ValueError(f"expected float32 in [-1, 1], uint8 or uint16; found {x.dtype}")

    def _check_latents(self, y: Tensor) -> None:
        if y.dim() != self.ndim + 2 or y.shape[1] != self.latent_dim or 0 in y.shape:
            raise ValueError(f"expected latents (b, {self.latent_dim}, ...), not empty; found {tuple(y.shape)}")
