"""`kernels/rans.py` on a GPU: the same bytes, all payloads of a file in one launch.

One program codes one payload; its lanes are a vector. What the lanes share is where the next word is: a running sum
over the lanes that refill (or emit) gives each its own. What a step needs that does not hang on the states, its row
in decoding and its frequencies in encoding, is fetched a step ahead.

Payloads lie one behind the other: symbols, rows and columns of all in coding order, their words likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from codomain.kernels.rans import MAX_LANES, START
from jaxtyping import Int32, UInt16, UInt32, UInt64
from torch import Tensor

BLOCK = 1024  # symbols of one program where all are independent
_START = tl.constexpr(START)


class Tables(NamedTuple):
    """Tables of `kernels/rans.py`, on a device."""

    freqs: UInt32[Tensor, "c k"]
    starts: UInt32[Tensor, "c k"]
    inverses: UInt64[Tensor, "c k"]
    slots: UInt16[Tensor, "c s"]
    offsets: Int32[Tensor, " c"]
    precision: int


@triton.jit
def decode_group(x, row, inside, words, n_words, cursor, freqs, starts, slots, width, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    """Decode a symbol in every lane that is ``inside``; return columns, states and the cursor."""
    slot = x & ((1 << PRECISION) - 1)
    column = tl.load(slots + ((row.to(tl.int64) << PRECISION) + slot), mask=inside, other=0).to(tl.int32)
    at = row.to(tl.int64) * width + column
    freq = tl.load(freqs + at, mask=inside, other=0)
    start = tl.load(starts + at, mask=inside, other=0)
    y = freq * (x >> PRECISION) + slot - start
    low = inside & (y < _START)
    need = low.to(tl.int32)
    rank = cursor + tl.cumsum(need, 0) - need
    word = tl.load(words + rank, mask=low & (rank < n_words), other=0).to(tl.uint32)  # never beyond the last
    y = tl.where(low, y << 16 | word, y)
    return column, tl.where(inside, y, x), cursor + tl.sum(need, 0)


@triton.jit
def _decode_kernel(  # type: ignore[no-untyped-def]
    words,  # (m,) of all payloads
    states,  # (b, LANES), changed in place
    rows,  # (n,) of all payloads
    freqs, starts, slots,  # tables
    jobs,  # (b, 5): first symbol, symbols, lanes, first word, words
    columns,  # (n,) result
    cursors,  # (b,) result
    width, PRECISION: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    first, n = tl.load(jobs + 5 * b), tl.load(jobs + 5 * b + 1).to(tl.int32)
    lanes, n_words = tl.load(jobs + 5 * b + 2).to(tl.int32), tl.load(jobs + 5 * b + 4).to(tl.int32)
    words += tl.load(jobs + 5 * b + 3)
    rows += first
    columns += first
    lane = tl.arange(0, LANES)
    x = tl.load(states + b * LANES + lane)
    inside = (lane < lanes) & (lane < n)
    row = tl.load(rows + lane, mask=inside, other=0)
    done, cursor = n * 0, n * 0
    while done < n:
        ahead = done + lanes + lane
        next_inside = (lane < lanes) & (ahead < n)
        next_row = tl.load(rows + ahead, mask=next_inside, other=0)
        column, x, cursor = decode_group(x, row, inside, words, n_words, cursor, freqs, starts, slots, width, PRECISION)
        tl.store(columns + done + lane, column.to(tl.uint16), mask=inside)
        row, inside = next_row, next_inside
        done += lanes
    tl.store(states + b * LANES + lane, x)
    tl.store(cursors + b, cursor)


@triton.jit
def _steps(columns, rows, i, inside, freqs, starts, inverses, width):  # type: ignore[no-untyped-def]
    """Return frequency, start and inverse of the symbols ``i``."""
    row = tl.load(rows + i, mask=inside, other=0).to(tl.int64)
    at = row * width + tl.load(columns + i, mask=inside, other=0)
    freq = tl.load(freqs + at, mask=inside, other=0)
    return freq, tl.load(starts + at, mask=inside, other=0), tl.load(inverses + at, mask=inside, other=0)


@triton.jit
def _encode_kernel(  # type: ignore[no-untyped-def]
    columns, rows,  # (n,) of all payloads
    freqs, starts, inverses,  # tables
    jobs,  # (b, 3): first symbol, symbols, lanes
    words,  # (n,) result; those of a payload end where its symbols end
    states,  # (b, LANES) result
    counts,  # (b,) words of each, result
    width, PRECISION: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    first, n = tl.load(jobs + 3 * b), tl.load(jobs + 3 * b + 1).to(tl.int32)
    lanes = tl.load(jobs + 3 * b + 2).to(tl.int32)
    columns += first
    rows += first
    words += first
    lane = tl.arange(0, LANES)
    x = tl.full([LANES], _START, tl.uint32)
    last = n  # the words that are written begin here
    at = (n - 1) // lanes * lanes  # the last group may be short
    inside = (lane < lanes) & (at + lane < n)
    freq, start, inverse = _steps(columns, rows, at + lane, inside, freqs, starts, inverses, width)
    while at >= 0:
        next_at = at - lanes
        next_inside = (lane < lanes) & (next_at >= 0)
        next_freq, next_start, next_inverse = _steps(
            columns, rows, next_at + lane, next_inside, freqs, starts, inverses, width
        )
        full = inside & (x >> (32 - PRECISION) >= freq)  # x >= freq << 32 - P, within 32 bits
        emit = full.to(tl.int32)
        total = tl.sum(emit, 0)
        tl.store(words + last - total + tl.cumsum(emit, 0) - emit, x.to(tl.uint16), mask=full)
        last -= total
        y = tl.where(full, x >> 16, x)
        q = (y.to(tl.uint64) * (inverse >> 8) >> (inverse & 0xFF)).to(tl.uint32)
        x = tl.where(inside, y + q * ((1 << PRECISION) - freq) + start, x)
        inside, freq, start, inverse = next_inside, next_freq, next_start, next_inverse
        at = next_at
    tl.store(states + b * LANES + lane, x)
    tl.store(counts + b, n - last)


@triton.jit
def _columns_kernel(symbols, rows, offsets, freqs, columns, n, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(rows + i, mask=i < n, other=0).to(tl.int64)
    column = tl.load(symbols + i, mask=i < n, other=0).to(tl.int64) - tl.load(offsets + row)
    held = (i < n) & (column >= 0) & (column < width - 1)
    held &= tl.load(freqs + row * width + column, mask=held, other=0) > 0
    tl.store(columns + i, tl.where(held, column, width - 1).to(tl.uint16), mask=i < n)


def decode(
    words: Sequence[UInt16[np.ndarray, " m"]],
    states: Sequence[UInt32[np.ndarray, " lanes"]],
    rows: UInt16[Tensor, " n"],
    sizes: Sequence[int],
    tables: Tables,
) -> tuple[UInt16[Tensor, " n"], list[int], list[UInt32[np.ndarray, " lanes"]]]:
    """Decode many payloads.

    Args:
        words, states: of each payload; nothing behind the words.
        rows: table of each symbol, of one payload after the other.
        sizes: symbols of each payload; they sum to n.
        tables: all that ``rows`` name.

    Returns:
        The columns, and the cursor and the states of each payload at its end; a cursor beyond the words of its payload
        means that they ran out.
    """
    device, b = rows.device, len(sizes)
    columns = torch.empty(len(rows), dtype=torch.uint16, device=device)
    cursors = torch.zeros(b, dtype=torch.int32, device=device)
    lanes, n_words = [len(s) for s in states], [len(w) for w in words]
    jobs = jobs_on(device, starts_of(sizes), sizes, lanes, starts_of(n_words), n_words)
    all_words, all_states = joined(words, np.uint16, device), padded(states, device)
    if b:
        _decode_kernel[(b,)](
            all_words, all_states, rows, tables.freqs, tables.starts, tables.slots, jobs, columns, cursors,
            tables.freqs.shape[1], tables.precision, LANES=MAX_LANES, num_warps=1, num_stages=1,
        )  # fmt: skip
    return columns, cursors.tolist(), unpadded(all_states, lanes)


def encode(
    columns: UInt16[Tensor, " n"],
    rows: UInt16[Tensor, " n"],
    sizes: Sequence[int],
    tables: Tables,
    lanes: Sequence[int],
) -> tuple[list[UInt32[np.ndarray, " lanes"]], list[UInt16[np.ndarray, " m"]]]:
    """Code many payloads, of ``sizes`` symbols in ``lanes`` each; return the states and words of each."""
    device, b = columns.device, len(sizes)
    words = torch.empty(len(columns), dtype=torch.uint16, device=device)
    states = torch.empty(b, MAX_LANES, dtype=torch.uint32, device=device)
    counts = torch.empty(b, dtype=torch.int32, device=device)
    jobs = jobs_on(device, starts_of(sizes), sizes, lanes)
    if b:
        _encode_kernel[(b,)](
            columns, rows, tables.freqs, tables.starts, tables.inverses, jobs, words, states, counts,
            tables.freqs.shape[1], tables.precision, LANES=MAX_LANES, num_warps=1, num_stages=1,
        )  # fmt: skip
    n_words = counts.tolist()
    ends = (first + size for first, size in zip(starts_of(sizes), sizes, strict=True))
    parts = [words.view(torch.int16)[end - n : end] for end, n in zip(ends, n_words, strict=True)]
    kept = torch.cat(parts).cpu().numpy().view(np.uint16) if b else np.zeros(0, np.uint16)
    return unpadded(states, lanes), np.split(kept, starts_of(n_words)[1:]) if b else []


def columns_of(symbols: Int32[Tensor, " n"], rows: UInt16[Tensor, " n"], tables: Tables) -> UInt16[Tensor, " n"]:
    """Return the table column of each symbol, the last (the escape's) where no table holds it."""
    columns = torch.empty(len(symbols), dtype=torch.uint16, device=symbols.device)
    if len(symbols):
        _columns_kernel[(triton.cdiv(len(symbols), BLOCK),)](
            symbols, rows, tables.offsets, tables.freqs, columns, len(symbols), tables.freqs.shape[1], BLOCK=BLOCK
        )
    return columns


def starts_of(sizes: Sequence[int]) -> list[int]:
    """Return where each of several things begins that lie one behind the other."""
    return [0, *np.cumsum(sizes, dtype=np.int64).tolist()][: len(sizes)]


def jobs_on(device: torch.device, *numbers: Sequence[int]) -> Tensor:
    """Return (b, len(numbers)) int64: what each program is told."""
    return torch.tensor([*zip(*numbers, strict=True)], dtype=torch.int64, device=device)


def joined(parts: Sequence[np.ndarray], dtype: type, device: torch.device) -> Tensor:
    """Return all parts, one behind the other, on a device."""
    return torch.from_numpy(np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)).to(device)


def padded(states: Sequence[UInt32[np.ndarray, " lanes"]], device: torch.device) -> UInt32[Tensor, "b 16"]:
    """Return states in rows of equal length."""
    rows = np.zeros((len(states), MAX_LANES), np.uint32)
    for row, state in zip(rows, states, strict=True):
        row[: len(state)] = state
    return torch.from_numpy(rows).to(device)


def unpadded(rows: UInt32[Tensor, "b 16"], lanes: Sequence[int]) -> list[UInt32[np.ndarray, " lanes"]]:
    """Return the states that count."""
    return [row[:n] for row, n in zip(rows.cpu().numpy(), lanes, strict=True)]
