"""Ladder: what the codes of real files cost with tables that look at more and more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from codomain.codecs import bitstream, code_model, files, recording
from codomain.codecs.code_bottleneck import CodeBottleneck
from codomain.codecs.codec import Codec
from codomain.codecs.load import load
from jaxtyping import Int32


def ladder(name: str, folder: Path) -> dict[str, float]:
    """Return bits per code of the files of a folder: of a fixed length, with a table per codebook, with the tables of
    the code before, and in the `.cdm` files as they are, headers included.

    Raises:
        ValueError: for a model that has no codes, or a file that it does not code.
    """
    codec = load(name)
    bottleneck = codec.bottleneck
    if not isinstance(bottleneck, CodeBottleneck):
        raise ValueError(f"{name} has no codes: expected a model with codebooks")
    codes, n_bytes = [], 0
    for source, _ in files.jobs(folder, None, files.SUFFIXES[codec.kind] - {".cdm"}, ".cdm"):
        if codec.kind == "image":
            data = files.encode_picture(source.read_bytes(), codec)[0]
        else:
            data = files.encode_sound(source, codec)[0]
        n_bytes += len(data)
        codes += list(_codes(codec, bottleneck, bitstream.read(data)))
    found = code_model.ladder(bottleneck.model(), codes)
    return {**found, "whole files": 8 * n_bytes / sum(part.size for part in codes)}


def _codes(codec: Codec, bottleneck: CodeBottleneck, file: bitstream.File) -> Iterator[Int32[np.ndarray, "n t"]]:
    """Yield the codes of every chunk, each in the order that it is coded in."""
    if codec.kind == "image":
        grid = [-(-n // codec.stride) for n in reversed(file.header.shape)]
        sizes = [[r.stop - r.start for r in tile] for tile in bitstream.tiles(grid, bitstream.CHUNK["image"])]
    else:
        layout = recording.layout_of(codec, file)
        sizes = [[region.stop - region.start] for region in layout.regions for _ in range(layout.signals)]
    for i, size in enumerate(sizes):
        payloads = [chunk for chunk in file.chunks[i :: len(sizes)] if chunk is not None]
        yield bottleneck.decode(payloads, size).reshape(bottleneck.n_symbols, -1)
