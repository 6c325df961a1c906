"""Media: image files <-> samples. Nothing here knows a codec."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from codomain.codecs.bitstream import MAX_PIXELS
from jaxtyping import UInt8, UInt16
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # our own limit, checked before any pixel is decoded

# pictures of other formats: in a folder they fail with a line each, where notes and films are passed over
FOREIGN = {
    ".gif", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".tga", ".ppm", ".pgm", ".exr", ".dng", ".nef", ".cr2", ".arw",
}  # fmt: skip
# of a TIFF's directory, what is about the photograph and not the file
TIFF_TAGS = {270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853}
STRIP = 256  # rows converted at a time: a large picture exists once
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
    ".bmp": "BMP",
}
ALPHA_FORMATS = {"PNG", "WEBP", "TIFF", "AVIF"}
DEEP_FORMATS = {"PNG", "TIFF"}
SAVE_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0, "optimize": True},
    "WEBP": {"quality": 95, "method": 4, "exact": True},
    "AVIF": {"quality": 90, "speed": 6},
    "PNG": {"compress_level": 3},
}
UNREADABLE = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError,
    IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError, struct.error, zlib.error,
    RuntimeError, AttributeError,
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A decoded image file, upright.

    Attributes:
        pixels: (3, h, w), uint8 or uint16; a grey source has three equal channels.
        grey: the source had one channel.
        oriented: EXIF orientation was applied to the pixels.
        alpha: (h, w) of the dtype of pixels, or None.
        icc: colour profile, or None.
        exif: EXIF block without the orientation, or None.
    """

    pixels: UInt8[Tensor, "3 h w"] | UInt16[Tensor, "3 h w"]
    grey: bool = False
    oriented: bool = False
    alpha: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"] | None = None
    icc: bytes | None = None
    exif: bytes | None = None

    @property
    def depth(self) -> int:
        """Bits per sample."""
        return 8 if self.pixels.dtype == torch.uint8 else 16


def read_image(data: bytes) -> Picture:
    """Decode an image file; 8 and 16 bits, grey, colour, palette, alpha, EXIF orientation, ICC profile.

    Raises:
        ValueError: one line that says why the bytes are no picture that we can hold.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            if image.format not in FORMATS.values() and image.format != "MPO":  # a JPEG with more pictures behind it
                raise _Refused(f"expected one of {', '.join(sorted(set(FORMATS.values())))}; found {image.format}")
            if image.width * image.height > MAX_PIXELS:
                raise _Refused(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS} are allowed")
            n_frames = getattr(image, "n_frames", 1)
            if n_frames > 1 and image.format != "MPO":
                raise _Refused(f"it holds {n_frames} pictures; expected one")
            return _picture(image, data)
    except _Refused:
        raise
    except UnidentifiedImageError:
        raise ValueError(f"not an image that can be read ({len(data)} bytes)") from None
    except UNREADABLE as error:
        raise ValueError(f"unreadable image: {' '.join(str(error).split())}") from None


class _Refused(ValueError):
    """A sound file that we do not take."""


def write_image(picture: Picture, format: str) -> bytes:
    """Encode a picture as one of `FORMATS`; depth is reduced to 8 where the format holds no more.

    Raises:
        ValueError: if the format cannot hold the picture's alpha plane, or its size.
    """
    if picture.alpha is not None and format not in ALPHA_FORMATS:
        raise ValueError(f"{format} holds no alpha plane: decode to one of {', '.join(sorted(ALPHA_FORMATS))}")
    samples, alpha = picture.pixels.permute(1, 2, 0).numpy(), picture.alpha
    if picture.grey:
        samples = samples[..., :1]  # the decoder has made all three equal
    if picture.depth == 16 and format not in DEEP_FORMATS:
        samples, alpha = to_8_bits(samples), None if alpha is None else to_8_bits(alpha)
    if alpha is not None:
        samples = np.concatenate((samples, alpha[..., None]), axis=2)
    if samples.dtype == np.uint16 and samples.shape[2] > 1:
        return _write_deep(samples, picture, format)
    mode = {1: "I;16" if samples.dtype == np.uint16 else "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    image = Image.new(mode, (samples.shape[1], samples.shape[0]))
    for top in range(0, image.height, STRIP):
        strip = samples[top : top + STRIP].astype(samples.dtype.newbyteorder("<"))
        image.paste(Image.frombytes(mode, (image.width, len(strip)), strip.tobytes()), (0, top))
    extra: dict[str, object] = {k: v for k, v in (("icc_profile", picture.icc), ("exif", picture.exif)) if v}
    out = io.BytesIO()
    try:
        image.save(out, format, **SAVE_OPTIONS.get(format, {}), **extra)
    except UNREADABLE as error:  # among others, of metadata that the format's writer reads
        raise ValueError(f"{format} cannot hold {image.width} x {image.height} pixels ({error})") from None
    return out.getvalue()


def write_plane(plane: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]) -> bytes:
    """Encode one plane losslessly, as a grey PNG."""
    mode = "L" if plane.dtype == np.uint8 else "I;16"
    out = io.BytesIO()
    data = np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder("<")).tobytes()
    Image.frombytes(mode, (plane.shape[1], plane.shape[0]), data).save(out, "PNG", optimize=True)
    return out.getvalue()


def read_plane(data: bytes, size: tuple[int, int], depth: int) -> np.ndarray:
    """Decode `write_plane`, of untrusted bytes.

    Raises:
        ValueError: if they are not a grey PNG of this (width, height) and depth.
    """
    expected = ("L",) if depth <= 8 else ("I;16", "I;16B", "I")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != size or image.mode not in expected:
                raise ValueError(f"expected a {depth}-bit grey plane of {size}; found {image.mode} {image.size}")
            return np.asarray(image).astype(np.uint8 if depth <= 8 else np.uint16)
    except UNREADABLE as error:
        raise ValueError(f"unreadable plane: {' '.join(str(error).split())}") from None


def _picture(image: Image.Image, data: bytes) -> Picture:
    deep = _is_deep(image)  # first: reading the EXIF block of a PNG decodes it, at 8 bits
    exif, orientation = _read_exif(image)
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I;16") or image.mode == "I":
        samples = np.asarray(image)
        if samples.min() < 0 or samples.max() > 65535:
            raise _Refused("samples of more than 16 bits")
        samples = samples.astype(np.uint16)[..., None]
        if isinstance(image.info.get("transparency"), int):
            opaque = np.where(samples == image.info["transparency"], 0, 65535).astype(np.uint16)
            samples = np.concatenate((samples, opaque), axis=2)
    elif image.mode == "F":
        raise _Refused("floating-point samples; expected 8 or 16 bits")
    elif deep:
        image.load()  # Pillow sees damage that FFmpeg would paint over
        samples = _read_deep(data)
    else:
        if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
            icc = icc if image.mode == "YCbCr" else None  # the profile describes the inks, not the RGB
        has_alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
        grey = image.mode in ("1", "L", "LA", "La")
        samples = _read_strips(image, {(1, 0): "L", (1, 1): "LA", (0, 0): "RGB", (0, 1): "RGBA"}[grey, has_alpha])
    block = exif.tobytes() if len(exif) else None
    image.close()  # its pixels are not needed twice
    upright = _apply_orientation(samples, orientation)
    colours, alpha = upright, None
    if upright.shape[2] in (2, 4):
        colours, alpha = upright[..., :-1], np.ascontiguousarray(upright[..., -1])
    grey = colours.shape[2] == 1
    planes = colours.transpose(2, 0, 1)
    planes = np.ascontiguousarray(np.repeat(planes, 3, 0) if grey else planes)
    return Picture(torch.from_numpy(planes), grey, orientation != 1, alpha, icc, block)


def _read_exif(image: Image.Image) -> tuple[Image.Exif, int]:
    """EXIF without the orientation, and that; a damaged block is none."""
    try:
        exif = image.getexif()
        orientation = int(exif.pop(ExifTags.Base.Orientation, 1) or 1)
        if image.format == "TIFF":  # where Pillow returns the whole directory, offsets of strips and all
            for tag in set(exif) - TIFF_TAGS:
                del exif[tag]
        exif.tobytes()
    except UNREADABLE:
        return Image.Exif(), 1
    return exif, orientation if 1 <= orientation <= 8 else 1


def _read_strips(image: Image.Image, mode: str) -> UInt8[np.ndarray, "h w c"]:
    """Convert a few rows at a time; the array lies plane by plane."""
    image.load()
    width, height = image.im.size  # of a TIFF to be turned, image.size has the sides of the upright one already
    planes = np.empty((len(mode), height, width), np.uint8)
    for top in range(0, height, STRIP):
        strip = np.asarray(image.crop((0, top, width, min(top + STRIP, height))).convert(mode))
        planes[:, top : top + STRIP] = strip.reshape(*strip.shape[:2], -1).transpose(2, 0, 1)
    return planes.transpose(1, 2, 0)


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has 16-bit colour, which Pillow would cut to 8."""
    if image.format == "PNG":
        tiles: Any = getattr(image, "tile", ())  # the raw mode tells: "RGB;16B"
        return bool(tiles) and str(tiles[0][3]).endswith(";16B")
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        deep = 16 in tuple(tags.get(258, ()))
        if deep and (tags.get(262) not in (1, 2) or 1 in tuple(tags.get(338, ()))):
            raise _Refused("16-bit TIFF that is neither grey nor RGB with plain alpha")
        return deep
    return False


def _read_deep(data: bytes) -> UInt16[np.ndarray, "h w c"]:
    import av

    with av.open(io.BytesIO(data), "r") as container:
        frame = next(container.decode(video=0))
    wanted = {1: "gray16le", 2: "ya16le", 3: "rgb48le", 4: "rgba64le"}[len(frame.format.components)]
    samples = frame.to_ndarray(format=wanted) if wanted != "ya16le" else _grey_alpha(frame)
    return np.asarray(samples, np.uint16).reshape(frame.height, frame.width, -1)


def _grey_alpha(frame: object) -> np.ndarray:
    rgba = frame.to_ndarray(format="rgba64le")  # type: ignore[attr-defined]
    return np.ascontiguousarray(rgba[..., [0, 3]])


def _write_deep(samples: UInt16[np.ndarray, "h w c"], picture: Picture, format: str) -> bytes:
    """16-bit colour, or grey with alpha, which Pillow does not write."""
    if samples.shape[2] == 2:  # few readers know two deep channels
        samples = samples[..., [0, 0, 0, 1]]
    if format == "TIFF":
        import tifffile

        out = io.BytesIO()
        n = samples.shape[2]
        tifffile.imwrite(
            out, samples, photometric="rgb", planarconfig="contig",
            extrasamples=["unassalpha"] if n == 4 else None, iccprofile=picture.icc, metadata=None,
        )  # fmt: skip
        return out.getvalue()
    import av

    height, width, n = samples.shape
    name = {3: "rgb48be", 4: "rgba64be"}[n]
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = width, height, name, Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(samples), format=name)
    data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    extra = b""
    if picture.icc:
        extra += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc))
    if picture.exif:
        extra += _png_chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))
    return data[:33] + extra + data[33:]  # behind the signature (8 bytes) and IHDR (25)


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _apply_orientation(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (h, w, c) upright; the eight values of EXIF tag 274."""
    flips = {2: np.fliplr, 4: np.flipud}
    if orientation in flips:
        return flips[orientation](samples)
    turns = {3: 2, 6: -1, 8: 1}
    if orientation in turns:
        return np.rot90(samples, turns[orientation])
    if orientation in (5, 7):
        transposed = samples.transpose(1, 0, 2)
        return transposed if orientation == 5 else np.rot90(transposed, 2)
    return samples


def to_8_bits(samples: np.ndarray) -> np.ndarray:
    """Round samples of 16 bits to 8."""
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def suffix_format(path: Path) -> str:
    """Return the format that a path's suffix names.

    Raises:
        ValueError: if it names none.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise ValueError(f"{path.suffix or 'no suffix'}: expected one of {' '.join(FORMATS)}") from None
