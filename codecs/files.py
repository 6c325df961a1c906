"""Files: pictures on disk <-> `.cdm` files on disk, one at a time or a folder at a time.

Nothing is half-written: every output appears under a temporary name and is renamed when complete.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from codomain.codecs import bitstream, media
from codomain.codecs.bitstream import ALPHA, EXIF, ICC, NO_FLAGS, File, Flag
from codomain.codecs.codec import DEFAULT_QUALITY, Codec
from codomain.codecs.coder import BitstreamError
from codomain.codecs.load import load, name_of
from codomain.codecs.metrics import bpp, psnr
from codomain.codecs.target import Target, find_quality

STREAM = Path("-")


def encode_picture(
    data: bytes, codec: Codec, quality: float | None = None, target: Target | None = None
) -> tuple[bytes, tuple[int, int], float | None]:
    """Return the `.cdm` bytes of an image file's bytes, (width, height), and the quality.

    Args:
        data: of the image file.
        codec: to code with.
        quality: 1 to 100; by default the codec's middle.
        target: what to find the quality for, in place of one that is given.

    Raises:
        ValueError: if they are no picture that we can hold, or a target cannot be met.
    """
    picture = media.read_image(data)
    sections = {tag: body for tag, body in ((ICC, picture.icc), (EXIF, picture.exif)) if body}
    if picture.alpha is not None:
        sections[ALPHA] = media.write_plane(picture.alpha)
    flags = (Flag.GREY if picture.grey else NO_FLAGS) | (Flag.ORIENTED if picture.oriented else NO_FLAGS)
    pixels = picture.pixels[None]

    def compress(quality: float | None) -> bytes:
        return codec.compress(pixels, quality=quality, depth=picture.depth, flags=flags, sections=sections)

    size = (pixels.shape[3], pixels.shape[2])
    if target is None:
        quality = DEFAULT_QUALITY if quality is None and codec.bottleneck.has_rates else quality
        return compress(quality), size, quality
    if not codec.bottleneck.has_rates:
        raise ValueError(f"{codec.name} has one rate; it has no target")

    def measure(coded: bytes) -> float:
        if target.what == "psnr":
            x_hat = codec.decompress(coded, dtype=pixels.dtype)
            return psnr(pixels.numpy(), x_hat.numpy(), 2.0**picture.depth - 1)
        return float(len(coded) if target.what == "bytes" else bpp(len(coded), *size))

    found, coded = find_quality(target, compress, measure)
    return coded, size, found


def decode_picture(file: File, fast: bool = False) -> media.Picture:
    """Return the picture of a parsed file; ``fast`` for a preview.

    Raises:
        BitstreamError: if its model is unknown or its content damaged.
    """
    header = file.header
    if header.kind != "image":
        raise BitstreamError(f"the file holds {header.kind}; expected an image")
    dtype = torch.uint8 if header.depth <= 8 else torch.uint16
    grey = Flag.GREY in header.flags
    codec = load(name_of(header.model))
    pixels = codec.decompress_file(file, dtype, fast)[0]
    if grey:
        mean = (pixels.numpy().sum(0, dtype=np.uint32) * 2 + 3) // 6
        pixels = torch.from_numpy(np.stack([mean.astype(pixels.numpy().dtype)] * 3))
    alpha = None
    if ALPHA in file.sections:
        try:
            alpha = media.read_plane(file.sections[ALPHA], (header.shape[0], header.shape[1]), header.depth)
        except ValueError as error:
            raise BitstreamError(f"alpha plane: {error}") from None
    icc, exif = file.sections.get(ICC), file.sections.get(EXIF)
    return media.Picture(pixels, grey, False, alpha, icc, exif)


def check(data: bytes) -> File:
    """Read every byte of a file: checksums, and all latents by entropy decoding.

    Raises:
        BitstreamError: if anything is wrong.
    """
    file = bitstream.read(data)
    codec = load(name_of(file.header.model))
    codec.read_latents(data)
    if ALPHA in file.sections:
        decode_picture(replace(file))
    return file


def read(path: Path) -> bytes:
    """Return the bytes of a file, or of standard input for ``-``."""
    return sys.stdin.buffer.read() if path == STREAM else path.read_bytes()


def write(path: Path, data: bytes, force: bool) -> None:
    """Write a file whole or not at all, or standard output for ``-``.

    Raises:
        ValueError: if the path exists and ``force`` is not given.
    """
    if path == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    refuse_overwrite(path, force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=".codomain-", suffix=".part", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def refuse_overwrite(path: Path, force: bool) -> None:
    """Raise ValueError if ``path`` exists and may not be replaced; what is no regular file never may."""
    if path == STREAM or not path.exists():
        return
    if not path.is_file():
        raise ValueError(f"{path} is no regular file: expected a path to write to, or - for standard output")
    if not force:
        raise ValueError(f"{path} exists already: --force replaces it")


def jobs(source: Path, target: Path | None, suffixes: set[str], new_suffix: str) -> Iterator[tuple[Path, Path]]:
    """Pair inputs with outputs. A folder keeps its tree; the default output lies beside the input.

    Raises:
        ValueError: if the input does not exist, or a folder holds nothing of these suffixes.
    """
    if source == STREAM:
        yield source, target or STREAM
    elif source.is_dir():
        found = sorted(p for p in source.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
        if not found:
            raise ValueError(f"{source}: no files that end in {' '.join(sorted(suffixes))}")
        if target is not None and (target == STREAM or target.is_file()):
            raise ValueError(f"{source} is a folder: expected a folder to write to; found {target}")
        root = target or source
        stems = [p.with_suffix("") for p in found]
        times = Counter(stems)
        for path, stem in zip(found, stems, strict=True):
            # photo.png beside photo.jpg: both names stay whole
            name = path.name if times[stem] > 1 else path.stem
            yield path, root / path.relative_to(source).with_name(name + new_suffix)
    elif source.exists():
        if target is not None and target.is_dir():
            target = target / (source.stem + new_suffix)
        yield source, target or source.with_suffix(new_suffix)
    else:
        raise ValueError(f"{source}: no such file or folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
