"""What `codomain bench codec` measures: pixels to the bytes of a file and back, beside what Pillow writes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from codomain.codecs import bitstream
from codomain.codecs.bench import Contender
from codomain.codecs.codec import Codec
from codomain.codecs.load import load, names
from codomain.codecs.peers import is_installed, walloc
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

HEIGHT, WIDTH = 1024, 1536
SMALL, BATCH = (192, 256), 16  # pictures as models are trained on them
PACKETS = 3 * 6 * 7  # operations per pixel of three levels along both axes, by lifting; as `bench_wpt.LIFTING`
FORMATS = (("WEBP", 40), ("JPEG", 85), ("AVIF", 50))


def contenders() -> Iterator[Contender]:
    """Yield every operation of the models that ship, and of every library that is installed."""
    picture = synthetic_picture(HEIGHT, WIDTH)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
    small = cut(synthetic_picture(4 * SMALL[0], 4 * SMALL[1]), SMALL)
    common: dict[str, Any] = {"amount": HEIGHT * WIDTH / 1e6, "unit": "MPix"}
    compress, decompress = f"compress, {HEIGHT} x {WIDTH}", f"decompress, {HEIGHT} x {WIDTH}"
    for name in sorted(names("image"), key=lambda name: "16x" not in name):  # ratios are to the 16x codec
        codec: Codec = load(name)
        library, data = f"codomain {name}", codec.compress(x)
        moved, latents = x.nbytes + len(data), codec.encode(x)
        linear = PACKETS * picture[..., 0].size + 2 * 192 * latents.numel()
        yield Contender(compress, library, partial(codec.compress, x), **common, moved=moved, flop=linear)
        for operation, fast in ((decompress, False), (f"{decompress}, fast", True)):
            run = partial(codec.decompress, data, fast=fast)
            with FlopCounterMode(display=False) as counter:
                run()
            flop = counter.get_total_flops() + PACKETS * picture[..., 0].size
            yield Contender(operation, library, run, **common, moved=4 * moved, flop=flop)
        encode, decode = _entropy_coding(codec, x)
        moved = 4 * latents.numel() + len(data)
        yield Contender("entropy encode", library, encode, **common, moved=moved)
        yield Contender("entropy decode", library, decode, **common, moved=moved)
        yield from _small(library, *_in_batches(codec, small))
    for format, quality in FORMATS:
        write, read = _pillow(Image.fromarray(picture), format, quality)
        yield Contender(compress, f"Pillow {format} {quality}", write, **common)
        yield Contender(decompress, f"Pillow {format} {quality}", read, **common)
        each = [_pillow(Image.fromarray(one), format, quality) for one in small]
        yield from _small(
            f"Pillow {format} {quality}",
            partial(_each, [write for write, _ in each]), partial(_each, [read for _, read in each]),
        )  # fmt: skip
    if is_installed("walloc"):
        write, read = walloc(x)
        yield Contender(compress, "walloc 16x (random weights)", write, **common)
        yield Contender(decompress, "walloc 16x (random weights)", read, **common)


def _small(library: str, write: Callable[[], object], read: Callable[[], object]) -> Iterator[Contender]:
    """Yield the rows of a batch of small pictures."""
    of = f"{BATCH} of {SMALL[0]} x {SMALL[1]}"
    yield Contender(f"compress, {of}", library, write, BATCH, "pictures")
    yield Contender(f"read, {of}", library, read, BATCH, "pictures")


def _each(calls: list[Callable[[], object]]) -> list[object]:
    return [call() for call in calls]


def _in_batches(codec: Codec, pictures: np.ndarray) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what writes pictures at once, and what reads their integers one by one, as a loader does."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    files = codec.compress_batch(x)
    return partial(codec.compress_batch, x), lambda: [codec.read_symbols(data) for data in files]


def _pillow(image: Image.Image, format: str, quality: int) -> tuple[Callable[[], object], Callable[[], object]]:
    def write() -> bytes:
        out = io.BytesIO()
        image.save(out, format, quality=quality)
        return out.getvalue()

    data = write()
    return write, lambda: np.asarray(Image.open(io.BytesIO(data)))


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


def cut(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut a picture (h, w, 3) into whole tiles (n, *size, 3)."""
    (height, width), (h, w) = picture.shape[:2], size
    rows = picture[: height // h * h, : width // w * w].reshape(height // h, h, width // w, w, 3)
    return rows.swapaxes(1, 2).reshape(-1, h, w, 3)


def synthetic_picture(height: int, width: int) -> np.ndarray:
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
