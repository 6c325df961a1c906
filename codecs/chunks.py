"""Chunks: the payloads of all chunks of a file at once, on a GPU; the bytes are those of `codecs/coder.py`.

    symbols of all chunks --kernels, one launch each--> states and words --> a payload a chunk

What is rare or short stays with the processor: escaped symbols, heads of payloads, and every check of their bytes.
Imported only where there is a GPU: it needs Triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from codomain.codecs.coder import BitstreamError, Decoder, Tables, write_payload
from codomain.codecs.context import ContextModel
from codomain.kernels import context_triton, rans_triton
from codomain.kernels.rans import inverses, lanes_for
from jaxtyping import Int32, UInt16
from torch import Tensor


def encode_symbols(symbols: Sequence[Int32[Tensor, "c _"]], tables: Tables) -> list[bytes]:
    """Return the payload of each chunk, row i of which is coded with table i."""
    sizes = [part.numel() for part in symbols]
    flat = torch.cat([part.reshape(-1) for part in symbols])
    return _encode(flat, _rows(len(tables), [part.shape[1] for part in symbols], flat.device), sizes, tables)


def decode_symbols(
    data: Sequence[bytes], tables: Tables, sizes: Sequence[int], device: torch.device
) -> list[Int32[Tensor, "c _"]]:
    """Return exactly the chunks that `encode_symbols` was given, of ``sizes`` symbols a row.

    Raises:
        BitstreamError: if the bytes of one are not such a payload.
    """
    decoders = [Decoder(chunk, tables, len(tables) * n) for chunk, n in zip(data, sizes, strict=True)]
    escapes = [decoder.take_escapes() for decoder in decoders]
    totals = [decoder.total for decoder in decoders]
    rows = _rows(len(tables), sizes, device)
    columns, cursors, states = rans_triton.decode(
        [d.words[:-1] for d in decoders], [d.states for d in decoders], rows, totals, on_device(tables, device)
    )
    wide = columns.to(torch.int32)
    symbols = torch.from_numpy(tables.offsets).to(device)[rows.to(torch.int32)] + wide
    escaped = (wide == tables.escape).nonzero()[:, 0]
    found = _counts(escaped, totals)
    for decoder, cursor, state, values, n in zip(decoders, cursors, states, escapes, found, strict=True):
        if len(values) != n:
            raise BitstreamError(f"payload escapes {n} symbols; it holds {len(values)}")
        decoder.settle(cursor, state)
    symbols[escaped] = torch.from_numpy(np.concatenate(escapes)).to(device)
    return [part.view(len(tables), n) for part, n in zip(symbols.split(totals), sizes, strict=True)]


def encode_in_context(symbols: Sequence[Int32[Tensor, "d _ _"]], model: ContextModel, index: int) -> list[bytes]:
    """Return the payload of each chunk, as `ContextModel.encode` does."""
    flat = torch.cat([part.reshape(-1) for part in symbols])
    grids = [(part.shape[1], part.shape[2]) for part in symbols]
    rows, coded = context_triton.choose(flat, grids, *_weights(model, index, flat.device))
    return _encode(coded, rows, [part.numel() for part in symbols], model.tables)


def decode_in_context(
    data: Sequence[bytes], model: ContextModel, grids: Sequence[tuple[int, int]], index: int, device: torch.device
) -> list[Int32[Tensor, "d _ _"]]:
    """Return exactly the chunks that `encode_in_context` was given.

    Raises:
        BitstreamError: if the bytes of one are not such a payload.
    """
    d, tables = len(model.forms.value), model.tables
    sizes = [d * h * w for h, w in grids]
    decoders = [Decoder(chunk, tables, n) for chunk, n in zip(data, sizes, strict=True)]
    escapes = [decoder.take_escapes() for decoder in decoders]
    symbols, used, states = context_triton.decode(
        [decoder.words[:-1] for decoder in decoders], [decoder.states for decoder in decoders], escapes, grids,
        on_device(tables, device), *_weights(model, index, device),
    )  # fmt: skip
    for decoder, (cursor, taken), state, values in zip(decoders, used, states, escapes, strict=True):
        if taken != len(values):
            raise BitstreamError("payload is damaged: it does not hold the symbols that it announces")
        decoder.settle(cursor, state)
    return [part.view(d, h, w) for part, (h, w) in zip(symbols.split(sizes), grids, strict=True)]


@lru_cache(maxsize=4)
def on_device(tables: Tables, device: torch.device) -> rans_triton.Tables:
    """Return tables where the kernels read them; those used last are kept there."""
    arrays = (tables.all_freqs, tables.starts, inverses(tables.all_freqs), tables.slots, tables.offsets)
    freqs, starts, divisors, slots, offsets = (torch.from_numpy(a).to(device) for a in arrays)
    return rans_triton.Tables(freqs, starts, divisors, slots, offsets, tables.precision)


def _weights(
    model: ContextModel, index: int, device: torch.device
) -> tuple[context_triton.Forms, Int32[Tensor, "p d"]]:
    forms = context_triton.Forms(*(torch.from_numpy(weights).to(device) for weights in model.forms))
    return forms, torch.from_numpy(model.floor(index)).to(device)


def _rows(c: int, sizes: Sequence[int], device: torch.device) -> UInt16[Tensor, " n"]:
    channels = torch.arange(c, dtype=torch.int16, device=device)
    return torch.cat([channels.repeat_interleave(n) for n in sizes]).view(torch.uint16)


def _encode(
    symbols: Int32[Tensor, " n"], rows: UInt16[Tensor, " n"], sizes: Sequence[int], tables: Tables
) -> list[bytes]:
    there = on_device(tables, symbols.device)
    columns = rans_triton.columns_of(symbols, rows, there)
    states, words = rans_triton.encode(columns, rows, sizes, there, [lanes_for(n) for n in sizes])
    escaped = (columns.to(torch.int32) == tables.escape).nonzero()[:, 0]
    values = np.split(symbols[escaped].cpu().numpy(), np.cumsum(_counts(escaped, sizes))[:-1])
    return [write_payload(*parts) for parts in zip(values, states, words, strict=True)]


def _counts(indices: Tensor, sizes: Sequence[int]) -> list[int]:
    """Return how many of the ascending indices are in each of several parts that lie one behind the other."""
    ends = np.searchsorted(indices.cpu().numpy(), np.cumsum(sizes))
    return np.diff(ends, prepend=0).tolist()  # type: ignore[no-any-return]
