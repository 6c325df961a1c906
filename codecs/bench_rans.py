"""What `codomain bench rans` measures: integers to bytes and back, on CPU threads and, where there is one, on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from codomain.codecs import bitstream
from codomain.codecs.bench import Contender, agree
from codomain.codecs.bench_codec import synthetic_picture
from codomain.codecs.bottleneck import Bottleneck, EntropyBottleneck
from codomain.codecs.coder import Tables, decode_symbols, encode_symbols
from codomain.codecs.load import load
from codomain.codecs.peers import compressai, constriction, is_installed
from torch import Tensor

ROWS, SYMBOLS, WIDEST = 12, 49152, 200  # tables, symbols of each, the largest in magnitude


def contenders() -> Iterator[Contender]:
    """Yield coding and decoding of every library that is installed."""
    rng = np.random.default_rng(0)
    scales = np.geomspace(20, 0.5, ROWS)[:, None]
    symbols = np.clip(np.round(rng.laplace(0, scales, (ROWS, SYMBOLS))), -WIDEST, WIDEST).astype(np.int32)
    counts = np.stack([np.bincount(row + WIDEST, minlength=2 * WIDEST + 1) for row in symbols])
    tables = Tables.from_counts(counts, np.full(ROWS, -WIDEST))
    data, amount = encode_symbols(symbols, tables), symbols.size / 1e6
    if not np.array_equal(decode_symbols(data, tables, SYMBOLS), symbols):
        raise ValueError("codomain: the round trip differs")
    there, back = f"encode, {ROWS} x {SYMBOLS}", f"decode, {ROWS} x {SYMBOLS}"
    moved = symbols.nbytes + len(data)
    yield Contender(there, "codomain", partial(encode_symbols, symbols, tables), amount, "Msymbols", moved)
    yield Contender(back, "codomain", partial(decode_symbols, data, tables, SYMBOLS), amount, "Msymbols", moved)
    for library, make in (("constriction", constriction), ("compressai", compressai)):
        if is_installed(library):
            encode, decode = make(symbols, counts, WIDEST)
            agree(library, torch.as_tensor(decode()), torch.from_numpy(symbols))
            yield Contender(there, library, encode, amount, "Msymbols")
            yield Contender(back, library, decode, amount, "Msymbols")
    if torch.cuda.is_available():
        yield from _gpu(symbols, tables)


def _gpu(symbols: np.ndarray, tables: Tables) -> Iterator[Contender]:
    plain = EntropyBottleneck(len(tables))
    plain.freqs, plain.offsets = torch.from_numpy(tables.freqs), torch.from_numpy(tables.offsets)
    yield from _on_gpu(f"128 chunks of {ROWS} x {SYMBOLS}", plain, [torch.from_numpy(symbols)] * 128, 0)
    codec = load("walloc-rgb-4x")
    picture, index = torch.from_numpy(synthetic_picture(1024, 1536)).permute(2, 0, 1)[None], codec.quality_index(None)
    y = codec.encode(picture)
    latents = codec.bottleneck.to_symbols(y, index)[0]
    parts = [latents[:, rows, columns] for rows, columns in bitstream.tiles(y.shape[2:], bitstream.CHUNK["image"])]
    for n in (4, 64):  # of that picture, and as of a larger one
        yield from _on_gpu(f"{n} chunks of walloc-rgb-4x", codec.bottleneck, parts * (n // len(parts)), index)


def _on_gpu(name: str, bottleneck: Bottleneck, parts: list[Tensor], index: int) -> Iterator[Contender]:
    """Coding of many chunks, all at once on a GPU, beside a thread a chunk: from and to integers on the device."""
    device, processor = torch.device("cuda"), torch.device("cpu")
    grids, there = [part.shape[1:] for part in parts], [part.to(device) for part in parts]
    data, amount = bottleneck.encode_chunks(parts, index), sum(part.numel() for part in parts) / 1e6
    back = bottleneck._decode_on_gpu(data, grids, index, device)
    if data != bottleneck.encode_chunks(there, index) or not all(map(torch.equal, there, back)):
        raise ValueError("codomain: the GPU and the CPU give different results")

    def decode(device: torch.device) -> None:
        list(bottleneck.decode_chunks(data, grids, index, device))

    gpu = f"codomain, {torch.cuda.get_device_name()}"
    moved = sum(part.nbytes for part in parts) + sum(len(payload) for payloads in data for payload in payloads)
    for library, run, symbols, work in ((gpu, device, there, moved), ("codomain, CPU", processor, parts, 0)):
        encode = partial(bottleneck.encode_chunks, symbols, index)
        yield Contender(f"encode, {name}", library, encode, amount, "Msymbols", work, device=run.type)
        yield Contender(f"decode, {name}", library, partial(decode, run), amount, "Msymbols", work, device=run.type)
