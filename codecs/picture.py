"""Picture: one of any size through a codec of two axes, region by region of its grid of latents.

    x --analysis--> symbols --a region, a layer--> payloads --bitstream--> bytes
    bytes --> payloads --> symbols, or latents

What recordings are to sound, in `codecs/recording.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from codomain.codecs import bitstream
from codomain.codecs.bitstream import CHUNK, File, Header
from codomain.codecs.coder import BitstreamError
from jaxtyping import Float, Int32, Shaped
from torch import Tensor

if TYPE_CHECKING:
    from codomain.codecs.codec import Codec

Region = tuple[slice, ...]


def compress(
    codec: Codec, x: Shaped[Tensor, "b c *space"], header: Header, sections: Mapping[int, bytes] | None
) -> list[bytes]:
    """Return the bytes of the `.cdm` files of pictures, of the shape and quality that the header says.

    They do not depend on the batch: where a picture's integers might, in their last bit, each is analysed by itself.
    """
    batches = x.split(len(x) if len(x) == 1 or codec.in_one_pass(x, header.quality) else 1)
    symbols = torch.cat([codec.symbols(batch, header.quality) for batch in batches])
    regions = bitstream.tiles(symbols.shape[2:], CHUNK[codec.kind])
    parts = [one[at(region)] for one in symbols for region in regions]
    payloads, n = codec.bottleneck.encode_chunks(parts, header.quality), len(regions)
    files = []
    for i in range(0, len(payloads), n):
        layers = zip(*payloads[i : i + n], strict=True)  # of each, the payloads of all regions
        files.append(bitstream.write(header, [chunk for layer in layers for chunk in layer], sections))
    return files


def read_symbols(codec: Codec, file: File, stages: int) -> Int32[Tensor, "1 s *grid"]:
    """Return the integers of the first stages of a parsed file.

    Raises:
        BitstreamError: if it is not one of the codec, or a chunk is damaged or missing.
    """
    regions, chunks = _chunks_of(codec, file)
    payloads = [[chunk for chunk in layers[:stages] if chunk is not None] for layers in chunks]
    if any(len(layers) < stages for layers in payloads):
        raise BitstreamError("a chunk of the picture is missing")
    parts = list(codec.bottleneck.read_chunks(payloads, list(map(_sides, regions)), file.header.quality))
    if len(parts) == 1:
        return parts[0][None]
    symbols = parts[0].new_empty(1, len(parts[0]), *(r.stop for r in regions[-1]))
    for region, part in zip(regions, parts, strict=True):
        symbols[at(region)] = part
    return symbols


def latents(codec: Codec, file: File, stages: int | None) -> Float[Tensor, "1 d *grid"]:
    """Return the latents of a parsed file, where the codec's weights lie; 0 where it is a salvaged one and damaged.

    Raises:
        BitstreamError: if it is not one of the codec, or a chunk is damaged.
    """
    regions, chunks = _chunks_of(codec, file)
    y_hat = torch.empty(1, codec.latent_dim, *(r.stop for r in regions[-1]), device=codec.device)
    parts = codec.region_latents(chunks, list(map(_sides, regions)), file.header.quality, stages)
    for region, part in zip(regions, parts, strict=True):
        y_hat[at(region)] = part
    return y_hat


def grid_of(codec: Codec, space: Sequence[int]) -> list[int]:
    """Return the sides of the grid of latents of a signal."""
    return [-(-n // codec.stride) for n in space]


def extended(region: Region, grid: Sequence[int], halo: int | None) -> tuple[Region, Region]:
    """Return a region with its halo, as far as the grid goes, and the region within that."""
    wide, inner = [], []
    for r, n in zip(region, grid, strict=True):
        start, stop = (0, n) if halo is None else (max(0, r.start - halo), min(n, r.stop + halo))
        wide.append(slice(start, stop))
        inner.append(slice(r.start - start, r.stop - start))
    return tuple(wide), tuple(inner)


def at(region: Iterable[slice]) -> tuple[Any, ...]:
    """Index a region of the last axes."""
    return (..., *region)


def _chunks_of(codec: Codec, file: File) -> tuple[list[Region], list[list[bytes | None]]]:
    """Return the regions of a file's grid, and of each its chunks, one a layer."""
    codec.check_header(file.header)
    width, height = file.header.shape
    regions = bitstream.tiles(grid_of(codec, (height, width)), CHUNK[codec.kind])
    n, layers = len(regions), codec.bottleneck.layers
    if len(file.chunks) != n * layers:
        raise BitstreamError(f"{len(file.chunks)} chunks; a signal of this size has {n * layers}")
    return regions, [file.chunks[i::n] for i in range(n)]


def _sides(region: Region) -> list[int]:
    return [r.stop - r.start for r in region]
