"""Files: pictures and sound on disk <-> `.cdm` files on disk, one at a time or a folder at a time.

Nothing is half-written: every output appears under a temporary name and is renamed when complete.
"""

from __future__ import annotations

import mmap
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from codomain.codecs import bitstream, media, recording, sound, video
from codomain.codecs.bitstream import ALPHA, EXIF, ICC, NO_FLAGS, File, Flag
from codomain.codecs.codec import DEFAULT_QUALITY, Codec
from codomain.codecs.coder import BitstreamError
from codomain.codecs.load import load, name_of
from codomain.codecs.metrics import bpp, kbps, psnr
from codomain.codecs.progress import Bar
from codomain.codecs.target import Target, find_quality

STREAM = Path("-")
SUFFIXES = {
    "image": set(media.FORMATS) | media.FOREIGN,
    "sound": set(sound.FORMATS) | sound.FOREIGN,
    "video": set(video.FORMATS) | video.FOREIGN,
}


def kind_of(path: Path, data: bytes | None = None, wanted: str | None = None) -> str:
    """Return "image", "sound" or "video": what a path's suffix says, or else the first bytes.

    A folder holds images, unless ``wanted``, the kind of the model that shall code it, is video: then it is a film.
    """
    if path.is_dir():
        return "video" if wanted == "video" and video.holds_frames(path) else "image"
    found = next((kind for kind, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes), None)
    if found is None:
        if data is None and path != STREAM and path.is_file():
            with path.open("rb") as file:
                data = file.read(12)
        head = data or b""
        found = "sound" if sound.is_sound(head) else "video" if video.is_video(head) else "image"
    return found


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

    def measure(what: str, coded: bytes) -> float:
        if what == "psnr":
            x_hat = codec.decompress(coded, dtype=pixels.dtype)
            return psnr(pixels.numpy(), x_hat.numpy(), 2.0**picture.depth - 1)
        return float(len(coded) if what == "bytes" else bpp(len(coded), *size))

    coded, found = _at_quality(codec, quality, target, compress, measure)
    return coded, size, found


def encode_sound(
    source: Path | bytes,
    codec: Codec,
    quality: float | None = None,
    target: Target | None = None,
    bar: Bar | None = None,
) -> tuple[bytes, sound.Format, float | None]:
    """Return the `.cdm` bytes of a sound file, its format, and the quality; memory does not grow with its length.

    Args:
        source: a path, or the bytes of the file.
        codec: to code with.
        quality: 1 to 100; by default the codec's middle.
        target: what to find the quality for, in place of one that is given.
        bar: told how far it is.

    Raises:
        ValueError: if it is no sound that we can hold, or a target cannot be met.
    """
    with sound.Reader(source) as reader:
        form = reader.format

    def compress(quality: float | None) -> bytes:
        with sound.Reader(source) as reader:
            blocks = reader.blocks()
            blocks = blocks if bar is None else bar.count(blocks, form.samples)
            return recording.compress(codec, blocks, form, codec.quality_index(quality))

    def measure(what: str, coded: bytes) -> float:
        return float(len(coded) if what == "bytes" else kbps(len(coded), form.seconds))

    coded, found = _at_quality(codec, quality, target, compress, measure)
    return coded, form, found


def _at_quality(
    codec: Codec,
    quality: float | None,
    target: Target | None,
    compress: Callable[[float | None], bytes],
    measure: Callable[[str, bytes], float],
) -> tuple[bytes, float | None]:
    """Return a file and its quality: the given one, the middle, or what a target needs."""
    if target is None:
        quality = DEFAULT_QUALITY if quality is None and codec.bottleneck.has_rates else quality
        return compress(quality), quality
    if not codec.bottleneck.has_rates:
        raise ValueError(f"{codec.name} has one rate; it has no target")
    if target.what in ({"image": ("kbps",), "sound": ("bpp", "psnr")}[codec.kind]):
        raise ValueError(f"{codec.kind}s have no target in {target.what}")
    found, coded = find_quality(target, compress, lambda coded: measure(target.what, coded))
    return coded, found


def decode_sound(
    data: bytes | memoryview,
    start_s: float | None = None,
    stop_s: float | None = None,
    stages: int | None = None,
    salvage: bool = False,
    fast: bool = False,
) -> tuple[File, sound.Format, Iterator[np.ndarray]]:
    """Return the file of a recording, the format of what is decoded of it, and its blocks.

    Only the chunks that seconds from ``start_s`` to ``stop_s`` need are read.

    Raises:
        BitstreamError: at once, or from the blocks, if the bytes are damaged.
        ValueError: for times or stages that the file does not have.
    """
    header = bitstream.read_header(data)
    codec = load(name_of(header.model))
    codec.check_header(header)
    codec.check_stages(stages)
    form = recording.form_of(header)
    if not all(second is None or np.isfinite(second * form.sample_rate) for second in (start_s, stop_s)):
        raise ValueError(f"expected start and stop in seconds; found {start_s} and {stop_s}")
    start, stop = (
        default if second is None else round(second * form.sample_rate)
        for second, default in ((start_s, 0), (stop_s, form.samples))
    )
    if not 0 <= start < min(stop, form.samples):
        raise ValueError(
            f"expected 0 <= start < stop within {form.seconds:g} s; found {start_s or 0:g} to "
            f"{form.seconds if stop_s is None else stop_s:g} s"
        )
    stop = min(stop, form.samples)
    layout = recording.Layout(codec, form)
    wanted = None
    if (start, stop) != (0, form.samples):
        regions = layout.looked_at(layout.needed(start, stop))
        layers = range(stages or codec.bottleneck.layers)
        wanted = {layout.chunk(n, i, s) for n in layers for i in regions for s in range(layout.signals)}
    file = bitstream.read(data, salvage, wanted)
    recording.layout_of(codec, file)
    blocks = recording.decompress(codec, file, start, stop, stages, fast)
    return file, replace(form, samples=stop - start), blocks


def decode_picture(file: File, fast: bool = False, stages: int | None = None) -> media.Picture:
    """Return the picture of a parsed file; ``fast`` for a preview, ``stages`` for the first of residual codes.

    Raises:
        BitstreamError: if its model is unknown or its content damaged.
    """
    header = file.header
    if header.kind != "image":
        raise BitstreamError(f"the file holds {header.kind}; expected an image")
    dtype = torch.uint8 if header.depth <= 8 else torch.uint16
    grey = Flag.GREY in header.flags
    codec = load(name_of(header.model))
    pixels = codec.decompress_file(file, dtype, fast, stages)[0]
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


def check(data: bytes | memoryview) -> File:
    """Read every byte of a file: checksums, and all latents by entropy decoding.

    Raises:
        BitstreamError: if anything is wrong.
    """
    file = bitstream.read(data)
    codec = load(name_of(file.header.model))
    if file.header.kind == "sound":
        layout = recording.layout_of(codec, file)
        for _ in recording.latents(layout, file, range(len(layout.regions))):  # one by one: it may be long
            pass
    elif file.header.kind == "video":
        from codomain.codecs.video_files import check_integers

        check_integers(file)
    else:
        codec.read_latents(data)
    if ALPHA in file.sections:
        decode_picture(replace(file))
    return file


def read(path: Path) -> bytes:
    """Return the bytes of a file, or of standard input for ``-``."""
    return sys.stdin.buffer.read() if path == STREAM else path.read_bytes()


def view(path: Path) -> bytes | memoryview:
    """Return the bytes of a file as `read`, but of a long one only where they are looked at."""
    if path == STREAM or not path.is_file() or path.stat().st_size == 0:
        return read(path)
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def write(path: Path, data: bytes, force: bool) -> None:
    """Write a file whole or not at all, or standard output for ``-``.

    Raises:
        ValueError: if the path exists and ``force`` is not given.
    """
    if path == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with writing(path, force) as partial:
        partial.write_bytes(data)


@contextmanager
def writing(path: Path, force: bool) -> Iterator[Path]:
    """Give a temporary path to write to; what is there at the end becomes ``path``, or goes to standard output.

    Raises:
        ValueError: if the path exists and ``force`` is not given.
    """
    refuse_overwrite(path, force)
    folder = Path(tempfile.gettempdir()) if path == STREAM else path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".codomain-{path.stem[:32]}-", suffix=".part", dir=folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
            if path == STREAM:
                shutil.copyfileobj(written, sys.stdout.buffer)
                sys.stdout.buffer.flush()
        if path != STREAM:
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def refuse_overwrite(path: Path, force: bool) -> None:
    """Raise ValueError if ``path`` exists and may not be replaced; what is no regular file never may."""
    if path == STREAM or not path.exists():
        return
    if not path.is_file():
        raise ValueError(f"{path} is no regular file: expected a path to write to, or - for standard output")
    if not force:
        raise ValueError(f"{path} exists already: --force replaces it")


def jobs(
    source: Path, target: Path | None, suffixes: set[str], new_suffix: str | Callable[[Path], str], films: bool = False
) -> Iterator[tuple[Path, Path]]:
    """Pair inputs with outputs. A folder keeps its tree; the default output lies beside the input.

    ``new_suffix`` is that of the outputs, or what tells it of an input. With ``films``, a folder of PNG files is one
    input, as a file is.

    Raises:
        ValueError: if the input does not exist, or a folder holds nothing of these suffixes.
    """

    def suffix(path: Path) -> str:
        return new_suffix if isinstance(new_suffix, str) else new_suffix(path)

    def is_input(path: Path) -> bool:
        return video.holds_frames(path) if path.is_dir() and films else path.is_file()

    def stem(path: Path) -> str:
        return path.name if path.is_dir() else path.stem

    if source == STREAM:
        yield source, target or STREAM
    elif source.is_dir() and not is_input(source):
        fitting = (p for p in source.rglob("*") if p.suffix.lower() in suffixes or p.is_dir())
        found = sorted(p for p in fitting if is_input(p))
        if not found:
            raise ValueError(f"{source}: no files that end in {' '.join(sorted(suffixes))}")
        if target is not None and (target == STREAM or target.is_file()):
            raise ValueError(f"{source} is a folder: expected a folder to write to; found {target}")
        root = target or source
        stems = [p.with_name(stem(p)) for p in found]
        times = Counter(stems)
        for path, short in zip(found, stems, strict=True):
            # photo.png beside photo.jpg: both names stay whole
            name = path.name if times[short] > 1 else short.name
            yield path, root / path.relative_to(source).with_name(name + suffix(path))
    elif source.exists():
        if target is not None and target.is_dir():
            target = target / (stem(source.resolve()) + suffix(source))
        beside = source.resolve() if source.is_dir() else source  # "." has no name
        yield source, target or beside.with_name(stem(beside) + suffix(source))
    else:
        raise ValueError(f"{source}: no such file or folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
