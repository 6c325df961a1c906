"""Bench: our speed beside that of the peers that are installed, interleaved in one run.

Each row is one operation of one contender: median time of the rounds, spread, rate, and the ratio to ours.
A contender whose output differs from ours where it should not is refused a time. Peers come with the extra
`bench`; the ones that are missing are named and left out.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from codomain.codecs import bitstream
from codomain.codecs.bottleneck import Bottleneck, EntropyBottleneck
from codomain.codecs.codec import Codec
from codomain.codecs.coder import Tables, decode_symbols, encode_symbols
from codomain.codecs.load import load, names
from codomain.codecs.peers import is_installed, pytorch_wavelets, vector_quantize_pytorch, walloc
from codomain.kernels.analysis import analyse
from codomain.kernels.vq import nearest_code, residual_codes
from codomain.kernels.wpt import iwpt, iwpt_by_convolution, wpt, wpt_by_convolution
from PIL import Image
from torch import Tensor

ROUNDS = 7
SLOW_S = 20.0  # a contender that takes longer than this is run once
LOOKUPS = ((16384, 64, 1024), (16384, 128, 8192), (4096, 8, 65536))  # vectors, components, codes
STAGES = 4  # of the residual lookup, of the first of these sizes with four times the vectors
PAUSE_S = 0.02  # OpenMP threads of the library before spin for some milliseconds after their work


class Contender(NamedTuple):
    """One operation of one library; the first of an operation is ours."""

    operation: str
    library: str
    run: Callable[[], Any]
    amount: float  # in millions of the unit
    unit: str
    peak_mib: float | None = None  # of memory that it takes beside its input and output


def bench(subject: str, as_json: bool = False) -> list[dict[str, Any]]:
    """Measure ``subject``, "wpt", "vq", "rans" or "codec"; print a table or one JSON object per row."""
    contenders = {"wpt": _wpt, "vq": _vq, "rans": _rans, "codec": _codec}[subject]
    rows = []
    with torch.inference_mode():
        for group in _grouped(contenders()):
            rows += _measure(group)
    if as_json:
        print("\n".join(json.dumps(row) for row in rows))
        return rows
    from rich.console import Console
    from rich.table import Table

    title = f"{subject}, {torch.get_num_threads()} threads, median of {ROUNDS} interleaved rounds"
    table = Table("operation", "library", "ms", "spread", "rate", "ours is faster by", "peak MiB", title=title)
    for row in rows:
        table.add_row(
            row["operation"], row["library"], f"{row['ms']:.2f}", f"{row['spread']:.0%}",
            f"{row['rate']:.3g} {row['unit']}", f"{row['ratio']:.1f}x" if row["ratio"] != 1 else "",
            str(row.get("peak_mib", "")),
        )  # fmt: skip
    Console().print(table)
    return rows


def _grouped(contenders: Iterator[Contender]) -> list[list[Contender]]:
    groups: dict[str, list[Contender]] = {}
    for contender in contenders:
        groups.setdefault(contender.operation, []).append(contender)
    return list(groups.values())


def _measure(group: list[Contender]) -> list[dict[str, Any]]:
    times: list[list[float]] = [[] for _ in group]
    for turn in range(ROUNDS + 1):  # the first is a warm-up
        for contender, taken in zip(group, times, strict=True):
            if taken and taken[0] > SLOW_S:
                continue
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            contender.run()
            seconds = time.perf_counter() - began
            if turn > 0 or seconds > SLOW_S:
                taken.append(seconds)
    middle = [median(taken) for taken in times]
    return [
        {
            "operation": c.operation, "library": c.library, "ms": 1e3 * m,
            "spread": (max(taken) - min(taken)) / m, "rate": c.amount / m, "unit": f"M{c.unit}/s",
            "ratio": m / middle[0], "threads": torch.get_num_threads(),
            **({} if c.peak_mib is None else {"peak_mib": round(c.peak_mib, 1)}),
        }
        for c, taken, m in zip(group, times, middle, strict=True)
    ]  # fmt: skip


def _wpt() -> Iterator[Contender]:
    x = torch.rand(1, 3, 1024, 1536, generator=torch.Generator().manual_seed(0)) * 2 - 1
    X, amount = wpt(x, 3), x[0, 0].numel() / 1e6
    yield Contender("wpt, 3 x 1024 x 1536, level 3", "codomain", lambda: wpt(x, 3), amount, "Pix")
    yield Contender("iwpt", "codomain", lambda: iwpt(X, 3), amount, "Pix")
    periodic = wpt(x, 3, mode="periodization")
    if is_installed("pytorch_wavelets"):
        forward, inverse = pytorch_wavelets()
        _agree("pytorch_wavelets", forward(x), periodic)
        yield Contender("wpt, 3 x 1024 x 1536, level 3", "pytorch_wavelets", lambda: forward(x), amount, "Pix")
        yield Contender("iwpt", "pytorch_wavelets", lambda: inverse(periodic), amount, "Pix")
    import pywt

    def tree(planes: np.ndarray) -> np.ndarray:
        for _ in range(3):
            a, (h, v, d) = pywt.dwt2(planes, "bior4.4", "periodization")
            planes = np.stack((a, h, v, d), axis=2).reshape(1, -1, *a.shape[2:])
        return planes

    def merged(packets: np.ndarray) -> np.ndarray:
        for _ in range(3):
            a, *details = np.moveaxis(packets.reshape(1, -1, 4, *packets.shape[2:]), 2, 0)
            packets = pywt.idwt2((a, details), "bior4.4", "periodization")
        return packets

    packets = periodic.numpy()
    _agree("PyWavelets", torch.from_numpy(tree(x.numpy())), periodic)
    _agree("PyWavelets", torch.from_numpy(merged(packets)), x)
    operation = "wpt, 3 x 1024 x 1536, level 3"
    yield Contender(operation, "PyWavelets", lambda: tree(x.numpy()), amount, "Pix")
    yield Contender("iwpt", "PyWavelets", lambda: merged(packets), amount, "Pix")
    yield Contender(operation, "torch convolution", partial(wpt_by_convolution, x, 3), amount, "Pix")
    yield Contender("iwpt", "torch convolution", partial(iwpt_by_convolution, X, 3), amount, "Pix")
    yield from _analysis()


def _analysis() -> Iterator[Contender]:
    """Pixels to integers, fused and in three steps."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1, 3, 1024, 1536), dtype=torch.uint8, generator=generator)
    amount = pixels[:, 0].numel() / 1e6
    for latents, rate in ((12, "16x"), (48, "4x")):
        weight, bias = (torch.randn(n, generator=generator) for n in ((latents, 192), (latents,)))

        def fused(weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
            return analyse(pixels, weight, bias, 3, dtype=torch.int8)

        def stepwise(weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
            y = F.conv2d(wpt(pixels.float().mul_(2 / 255).sub_(1), 3), weight[:, :, None, None], bias)
            return y.round_().clamp_(-128, 127).to(torch.int8)

        if (fused() != stepwise()).float().mean() > 1e-3:  # a number near a tie may round either way
            raise ValueError("the fused analysis differs from its steps: no times are shown")
        operation = f"pixels to int8, {rate}"
        yield Contender(operation, "codomain", fused, amount, "Pix")
        yield Contender(operation, "wpt, 1x1 convolution, rounding", stepwise, amount, "Pix")


def _vq() -> Iterator[Contender]:
    has_peer = is_installed("vector_quantize_pytorch")
    (n, d, k), *_ = LOOKUPS
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        random = torch.Generator().manual_seed(0)
        where, rate = (torch.cuda.get_device_name(), _matmul_rate()) if device == "cuda" else ("CPU", 0.0)
        for shape in (*LOOKUPS, (4 * n, d, k, STAGES)):
            x = torch.randn(shape[:2], generator=random).to(device)
            books = torch.randn(*shape[3:], shape[2], shape[1], generator=random).to(device)
            runs: dict[str, Callable[[], Any]] = {
                "codomain": partial(nearest_code if len(shape) == 3 else residual_codes, x, books)
            }
            if has_peer:
                runs["vector-quantize-pytorch"] = vector_quantize_pytorch(x, books)
            operation = f"{shape[0]} x {shape[1]}, {shape[2]} codes{f', {STAGES} stages' * (len(shape) == 4)}, {where}"
            if device == "cuda":  # three products of float16 a lookup
                operation += f", floor {6e3 * prod(shape) / rate:.3g} ms"
            ours = runs["codomain"]()
            for library, run in runs.items():
                peak, result = _peak_mib(run, device)
                _same_codes(library, *(r if isinstance(r, Tensor) else r[0] for r in (result, ours)))
                finished = partial(_finished, run) if device == "cuda" else run
                yield Contender(operation, library, finished, shape[0] / 1e6, "vectors", peak)


def _same_codes(library: str, theirs: Tensor, ours: Tensor) -> None:
    """Ours are exact; float32 distances err for some vectors in a million, and once wrong a residual stays so."""
    wrong = (theirs != ours).reshape(len(ours), -1).any(1).double().mean()
    if wrong > 1e-4:
        raise ValueError(f"{library} and codomain choose other codes for {wrong:.2%} of vectors: no times are shown")


def _peak_mib(run: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Return the most memory that a call takes at once, its result included, and the result."""
    run()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        result = run()
        return (torch.cuda.max_memory_allocated() - held) / 2**20, result

    def status(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(key))) / 2**10

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the first call freed counts again
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    result = run()
    return status("VmHWM") - before, result


def _matmul_rate(n: int = 8192) -> float:
    """Return the operations per second of the GPU in a product of float16."""
    a = torch.ones(n, n, dtype=torch.float16, device="cuda")
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        _finished(lambda: a @ a)
        times.append(time.perf_counter() - began)
    return float(2 * n**3 / median(times[1:]))


def _finished(run: Callable[[], Any]) -> None:
    run()
    torch.cuda.synchronize()


def _rans() -> Iterator[Contender]:
    rng = np.random.default_rng(0)
    c, n, widest = 12, 49152, 200
    scales = np.geomspace(20, 0.5, c)[:, None]
    symbols = np.clip(np.round(rng.laplace(0, scales, (c, n))), -widest, widest).astype(np.int32)
    counts = np.stack([np.bincount(row + widest, minlength=2 * widest + 1) for row in symbols])
    tables = Tables.from_counts(counts, np.full(c, -widest))
    data, amount = encode_symbols(symbols, tables), symbols.size / 1e6
    if not np.array_equal(decode_symbols(data, tables, n), symbols):
        raise ValueError("codomain: the round trip differs")
    yield Contender("encode, 12 x 49152", "codomain", lambda: encode_symbols(symbols, tables), amount, "symbols")
    yield Contender("decode", "codomain", lambda: decode_symbols(data, tables, n), amount, "symbols")
    if is_installed("compressai"):
        from compressai.entropy_models import EntropyBottleneck

        density = EntropyBottleneck(c)
        density.quantiles.data.copy_(torch.tensor([-200.0, 0.0, 200.0]).expand(c, 1, 3))
        density.update(force=True)
        x = torch.from_numpy(symbols).float()[None, :, :, None]
        strings = density.compress(x)
        _agree("compressai", density.decompress(strings, (n, 1)), x)
        yield Contender("encode, 12 x 49152", "compressai", lambda: density.compress(x), amount, "symbols")
        yield Contender("decode", "compressai", lambda: density.decompress(strings, (n, 1)), amount, "symbols")
    if torch.cuda.is_available():
        yield from _rans_on_gpu(symbols, tables)


def _rans_on_gpu(symbols: np.ndarray, tables: Tables) -> Iterator[Contender]:
    plain = EntropyBottleneck(len(tables))
    plain.freqs, plain.offsets = torch.from_numpy(tables.freqs), torch.from_numpy(tables.offsets)
    yield from _on_gpu("128 chunks of 12 x 49152", plain, [torch.from_numpy(symbols)] * 128, 0)
    codec = load("walloc-rgb-4x")
    picture, index = torch.from_numpy(_test_picture(1024, 1536)).permute(2, 0, 1)[None], codec.quality_index(None)
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
        torch.cuda.synchronize()

    gpu = f"codomain, {torch.cuda.get_device_name()}"
    for library, run, symbols in ((gpu, device, there), ("codomain, CPU", processor, parts)):
        yield Contender(
            f"encode, {name}", library, partial(bottleneck.encode_chunks, symbols, index), amount, "symbols"
        )
        yield Contender(f"decode, {name}", library, partial(decode, run), amount, "symbols")


def _codec() -> Iterator[Contender]:
    height, width = 1024, 1536
    picture = _test_picture(height, width)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
    amount, image = height * width / 1e6, Image.fromarray(picture)
    for name in sorted(names(), key=lambda name: "16x" not in name):  # ratios are to the 16x codec
        codec: Codec = load(name)
        data = codec.compress(x)
        yield Contender("compress, 1024 x 1536", f"codomain {name}", partial(codec.compress, x), amount, "Pix")
        yield Contender("decompress", f"codomain {name}", partial(codec.decompress, data), amount, "Pix")
        yield Contender(
            "decompress fast", f"codomain {name}", partial(codec.decompress, data, fast=True), amount, "Pix"
        )
        encode, decode = _entropy_coding(codec, x)
        yield Contender("entropy encode", f"codomain {name}", encode, amount, "Pix")
        yield Contender("entropy decode", f"codomain {name}", decode, amount, "Pix")
    for format, quality in (("WEBP", 40), ("JPEG", 85), ("AVIF", 50)):

        def save(format: str = format, quality: int = quality) -> io.BytesIO:
            out = io.BytesIO()
            image.save(out, format, quality=quality)
            return out

        saved = save().getvalue()
        yield Contender("compress, 1024 x 1536", f"Pillow {format} {quality}", save, amount, "Pix")
        yield Contender(
            "decompress", f"Pillow {format} {quality}",
            lambda saved=saved: np.asarray(Image.open(io.BytesIO(saved))), amount, "Pix",  # type: ignore[misc]
        )  # fmt: skip
    if is_installed("walloc"):
        compress, decompress = walloc(x)
        yield Contender("compress, 1024 x 1536", "walloc 16x (random weights)", compress, amount, "Pix")
        yield Contender("decompress", "walloc 16x (random weights)", decompress, amount, "Pix")


def _entropy_coding(codec: Codec, x: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the coding of the integers of a picture, and the inverse; a thread a chunk, as files are coded."""
    index = codec.quality_index(None)
    symbols = codec.bottleneck.to_symbols(codec.encode(x), index)[0].numpy()
    regions = bitstream.tiles(symbols.shape[1:], bitstream.CHUNK["image"])
    parts = [np.ascontiguousarray(symbols[:, rows, columns]) for rows, columns in regions]
    chunks = [codec.bottleneck.encode(part, index) for part in parts]
    pool = ThreadPoolExecutor(torch.get_num_threads())

    def encode() -> object:
        return list(pool.map(lambda part: codec.bottleneck.encode(part, index), parts))

    def decode() -> object:
        return list(pool.map(lambda c, part: codec.bottleneck.decode(c, part.shape[1:], index), chunks, parts))

    return encode, decode


def _test_picture(height: int, width: int) -> np.ndarray:
    """A picture with edges, gradients and noise of 1/f spectrum; reproducible, uint8 (h, w, 3)."""
    rng = np.random.default_rng(0)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    spectrum = (rng.standard_normal((3, *np.broadcast_shapes(fy.shape, fx.shape), 2)) @ (1, 1j)) / (
        np.hypot(fy, fx) + 2 / width
    ) ** 1.3
    planes = np.fft.irfft2(spectrum, (height, width))
    planes[0:1] = planes.mean(0)
    planes = 0.8 * planes[0:1] / planes[0].std() + 0.2 * planes / planes.std((1, 2), keepdims=True)
    picture: np.ndarray = np.clip(127.5 + 45 * planes.transpose(1, 2, 0), 0, 255).astype(np.uint8)
    return picture


def _agree(library: str, theirs: Tensor, ours: Tensor) -> None:
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-5):
        raise ValueError(f"{library} and codomain give different results: no times are shown")
