"""Video: files of video <-> frames, RGB of 8 bits. Nothing here knows a codec."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from codomain.codecs import colour, media, timing
from codomain.codecs.audio_track import Track
from codomain.codecs.coder import BitstreamError, read_varint, write_varint
from codomain.codecs.film import Film, check_size, demuxer_of
from jaxtyping import UInt8

FORMATS = {
    ".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".3gp": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi",
    ".y4m": "yuv4mpegpipe",
}  # fmt: skip
FOREIGN = {
    ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts", ".vob", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".ogm", ".rm",
    ".rmvb", ".mxf", ".yuv",
}  # fmt: skip
WRITTEN = {".mp4": "mp4", ".mkv": "matroska", ".y4m": "yuv4mpegpipe"}
FOLDER = ("", ".png")  # what stands for a folder of PNG files
NAME = "frame_{:06d}.png"
CRF = 10  # of H.264: nobody sees a difference
AHEAD = Fraction(1, 2)  # seconds that sound is written ahead of frames


@dataclass(frozen=True)
class Form:
    """What a film is, and what a file should give back.

    Attributes:
        width: of frames upright and scaled.
        height: the same.
        frames: of them.
        rate: frames per second.
        aspect: of a sample, width to height.
        primaries: ITU-T H.273 number of the colour primaries; 2 is unspecified.
        transfer: that of the transfer function.
    """

    width: int
    height: int
    frames: int
    rate: Fraction
    aspect: Fraction = Fraction(1)
    primaries: int = colour.UNSPECIFIED
    transfer: int = colour.UNSPECIFIED


@dataclass(frozen=True)
class Clip:
    """A film that can be read; between calls nothing is open.

    Attributes:
        form: its frames are counted exactly.
        audio: the packets of its sound as `audio_track.py` writes them, or None.
        notes: what was changed or left out, a line each.
    """

    form: Form
    audio: bytes | None
    notes: list[str]
    _read: Callable[[int, int], Iterator[np.ndarray]] = field(repr=False)

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Yield frames from ``start`` to before ``stop``, decoded anew from the key frame before.

        Raises:
            ValueError: for frames that the film does not have, or if it is another since it was opened.
        """
        stop = self.form.frames if stop is None else stop
        if not 0 <= start <= stop <= self.form.frames:
            raise ValueError(f"expected 0 <= start <= stop <= {self.form.frames}; found {start} to {stop}")
        return self._read(start, stop) if start < stop else iter(())


def is_video(data: bytes | memoryview) -> bool:
    """Whether the first bytes of a file, 12 suffice, are those of a film of `FORMATS`."""
    return demuxer_of(bytes(data[:12])) is not None


def holds_frames(path: Path) -> bool:
    """Whether a folder can be opened as a film: it holds PNG files."""
    return any(p.suffix.lower() == ".png" and p.is_file() for p in path.iterdir())


def open_clip(source: Path | bytes, scale: Fraction = Fraction(1)) -> Clip:
    """Open a film: a file, its bytes, or a folder of PNG files in natural order, shown at 25 a second.

    A film is decoded once here, and again whenever its frames are asked for; its memory grows with its length by no
    more than a number per frame and the packets of its sound.

    Args:
        source: of the film.
        scale: of its sides, above 0 and at most 1: see `colour.scaled_size`.

    Raises:
        ValueError: one line that says why it is no film that we can hold.
    """
    if isinstance(source, Path) and source.is_dir():
        return _open_folder(source, scale)
    film = Film(source, scale)
    form = Form(*film.size, len(film.order), film.rate, film.aspect, film.primaries, film.transfer)
    return Clip(form, film.audio, film.notes, film.read)


def write_clip(
    path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], form: Form, suffix: str, audio: bytes | None = None
) -> None:
    """Write a film, frame by frame: MP4 (H.264), MKV (FFV1, lossless), Y4M (4:4:4), or a folder of PNG files.

    H.264 is 4:2:0, and 4:4:4 where a side is odd. Y4M and folders hold no sound: it is left out. Of a folder that
    exists, the frames of an earlier film are replaced.

    Raises:
        ValueError: if ``suffix`` names no format that is written, or the format cannot hold such frames or sound.
        BitstreamError: if ``audio`` is damaged.
    """
    if suffix.lower() not in (*WRITTEN, *FOLDER):
        raise ValueError(f"{suffix}: video is written as one of {' '.join(WRITTEN)}, or a folder of PNG files")
    if not 0 < form.rate <= timing.FASTEST or form.rate.denominator > timing.FASTEST:
        raise ValueError(f"a rate of {form.rate} frames a second is none that a file can hold")
    checked = _checked(frames, form)
    if suffix.lower() in FOLDER:
        _write_folder(path, checked)
    elif suffix.lower() == ".y4m":
        _write_y4m(path, checked, form)
    else:
        _encode(path, checked, form, WRITTEN[suffix.lower()], None if audio is None else Track.from_bytes(audio))


def write_display(form: Form) -> bytes:
    """Return the section DISPLAY of `bitstream.py`; no bytes where all is as usual."""
    numbers = (form.aspect.numerator, form.aspect.denominator, form.primaries, form.transfer)
    usual = (1, 1, colour.UNSPECIFIED, colour.UNSPECIFIED)
    return b"" if numbers == usual else b"".join(map(write_varint, numbers))


def read_display(data: bytes | memoryview, form: Form) -> Form:
    """Return a form with what the section DISPLAY says.

    Raises:
        BitstreamError: if it is damaged.
    """
    numbers: list[int] = []
    at = 0
    while at < len(data) and len(numbers) < 4:
        value, at = read_varint(data, at)
        numbers.append(value)
    if len(numbers) != 4 or at != len(data) or not all(0 < n < 1 << 31 for n in numbers) or max(numbers[2:]) > 255:
        raise BitstreamError(f"display facts are four numbers; found {numbers} in {len(data)} bytes")
    aspect, primaries, transfer = Fraction(numbers[0], numbers[1]), numbers[2], numbers[3]
    return replace(form, aspect=aspect, primaries=primaries, transfer=transfer)


def _checked(frames: Iterable[np.ndarray], form: Form) -> Iterator[np.ndarray]:
    """Pass frames on; refuse those of another size, and none at all."""
    n = 0
    for frame in frames:
        if frame.shape != (form.height, form.width, 3):
            raise ValueError(f"frame {n} is {frame.shape}; expected ({form.height}, {form.width}, 3)")
        yield frame
        n += 1
    if n == 0:
        raise ValueError("expected at least one frame; found none")


def _encode(path: Path, frames: Iterable[np.ndarray], form: Form, container: str, track: Track | None) -> None:
    """Write H.264 in MP4, or FFV1 in Matroska; of samples that are not square H.264 there too, which alone keeps them.

    PyAV does not tell Matroska the aspect of samples; H.264 holds it in its own stream, and of RGB it is as lossless.
    """
    import av

    is_mp4 = container == "mp4"
    even = form.width % 2 == form.height % 2 == 0
    layout = ("yuv420p" if even else "yuv444p") if is_mp4 else "bgr0"
    encoder, coding = "ffv1", {"level": "3", "slicecrc": "1", "g": "1"}
    if is_mp4:
        encoder, coding = "libx264", {"crf": str(CRF), "preset": "medium"}
    elif form.aspect != 1:
        encoder, coding = "libx264rgb", {"qp": "0", "preset": "veryfast"}
    options = {"movflags": "+faststart"} if is_mp4 else {}
    try:
        with av.open(f"file:{path}", "w", format=container, container_options=options) as out:
            stream: Any = out.add_stream(encoder, rate=form.rate, options=coding)
            context = stream.codec_context
            stream.width, stream.height, stream.pix_fmt = form.width, form.height, layout
            context.time_base, context.sample_aspect_ratio = 1 / form.rate, form.aspect
            context.color_primaries, context.color_trc = form.primaries, form.transfer
            if is_mp4:
                context.color_range, context.colorspace = colour.LIMITED, colour.matrix_of(form.width, form.height)
            sound = None if track is None else track.add_to(out)
            try:
                out.start_encoding()
            except av.error.FFmpegError:
                what = f"{form.width} x {form.height} pixels" if sound is None else f"{sound.name} sound: write .mkv"
                raise ValueError(f"{container.upper()} holds no {what}") from None
            packets = iter(()) if track is None or sound is None else track.packets_for(sound)
            packet = next(packets, None)
            for i, x in enumerate(frames):
                frame = colour.from_rgb(x, layout)
                frame.pts, frame.time_base = i, 1 / form.rate
                while packet is not None and (packet.pts or 0) * packet.time_base <= i / form.rate + AHEAD:
                    out.mux(packet)
                    packet = next(packets, None)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
            while packet is not None:
                out.mux(packet)
                packet = next(packets, None)
    except av.error.FFmpegError as error:
        raise ValueError(f"{container.upper()} cannot be written ({error.strerror})") from None


def _write_y4m(path: Path, frames: Iterable[np.ndarray], form: Form) -> None:
    rate, aspect = (f"{n.numerator}:{n.denominator}" for n in (form.rate, form.aspect))
    with path.open("wb") as file:
        head = f"YUV4MPEG2 W{form.width} H{form.height} F{rate} Ip A{aspect} C444 XCOLORRANGE=LIMITED\n"
        file.write(head.encode())
        for x in frames:
            file.write(b"FRAME\n" + colour.from_rgb(x, "yuv444p").to_ndarray().tobytes())


def _write_folder(path: Path, frames: Iterable[np.ndarray]) -> None:
    from PIL import Image

    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".codomain-", dir=path) as partial:
        names = []
        for i, x in enumerate(frames):
            names.append(NAME.format(i))
            Image.fromarray(x).save(Path(partial) / names[-1], compress_level=3)
        for old in path.glob("frame_*.png"):
            old.unlink()
        for name in names:
            (Path(partial) / name).replace(path / name)


def _open_folder(path: Path, scale: Fraction) -> Clip:
    """Open a folder of PNG files; their sizes are read of their headers."""
    names = sorted((p for p in path.iterdir() if p.suffix.lower() == ".png" and p.is_file()), key=_natural)
    if not names:
        raise ValueError(f"{path}: no PNG files")
    notes: list[str] = []
    first = media.read_image(names[0].read_bytes())
    if first.alpha is not None:
        notes.append("alpha dropped")
    if first.depth > 8:
        notes.append(f"{first.depth} bits rounded to 8")
    height, width = first.pixels.shape[1:]
    size = _png_size(names[0])
    for name in names[1:]:
        if _png_size(name) != size:
            raise ValueError(f"{name.name} is {_png_size(name)}; expected {size}, as {names[0].name} is")

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        for name in names[start:stop]:
            pixels = media.read_image(name.read_bytes()).pixels.permute(1, 2, 0).numpy()
            if pixels.shape != (height, width, 3):
                raise ValueError(f"{name.name} is {pixels.shape[1]} x {pixels.shape[0]}; expected {width} x {height}")
            x = media.to_8_bits(pixels) if pixels.dtype == np.uint16 else pixels
            yield np.ascontiguousarray(colour.shrink(x, scale))

    scaled = colour.scaled_size(width, height, scale)
    check_size(scaled, len(names))
    return Clip(Form(*scaled, len(names), timing.DEFAULT), None, notes, read)


def _png_size(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(24)
    return f"{int.from_bytes(head[16:20])} x {int.from_bytes(head[20:24])}"


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort frame2 before frame10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]
