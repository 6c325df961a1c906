from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs import media
from codomain.codecs.media import Picture, read_image, read_plane, write_image, write_plane
from PIL import Image, ImageCms

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (9, 14, 4), np.uint8)
DEEP = RNG.integers(0, 65536, (9, 14, 4), np.uint16)


def saved(array: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, format, **options)
    return out.getvalue()


def planes(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array[..., :3].transpose(2, 0, 1)))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_lossless_formats_round_trip(format: str) -> None:
    picture = read_image(saved(COLOURS[..., :3], format))
    assert torch.equal(picture.pixels, planes(COLOURS))
    assert torch.equal(read_image(write_image(picture, format)).pixels, picture.pixels)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_are_read(format: str) -> None:
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    picture = read_image(saved(smooth, format))
    assert picture.pixels.shape == (3, 64, 64)
    again = read_image(write_image(picture, format)).pixels
    assert (again.int() - planes(smooth).int()).abs().float().mean() < 6


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("source", [COLOURS, DEEP], ids=["8", "16"])
def test_depth_grey_and_alpha_round_trip(source: np.ndarray, format: str, channels: int) -> None:
    grey = channels < 3
    pixels = planes(np.repeat(source[..., :1], 3, 2) if grey else source)
    alpha = source[..., 3] if channels % 2 == 0 else None
    back = read_image(write_image(Picture(pixels, grey, alpha=alpha), format))
    assert torch.equal(back.pixels, pixels)
    assert back.depth == pixels.element_size() * 8
    assert (back.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(back.alpha, alpha)


def test_palette_with_transparency() -> None:
    image = Image.fromarray(COLOURS[..., :3]).quantize(8)
    out = io.BytesIO()
    image.save(out, "PNG", transparency=0)
    picture = read_image(out.getvalue())
    expected = np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGBA"))
    assert torch.equal(picture.pixels, planes(expected))
    np.testing.assert_array_equal(picture.alpha, expected[..., 3])


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(orientation: int, format: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274], exif[271] = orientation, "maker"
    data = saved(COLOURS[..., :3], format, exif=exif)
    picture = read_image(data)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert torch.equal(picture.pixels, planes(upright))
    assert picture.oriented == (orientation != 1)
    back = Image.open(io.BytesIO(write_image(picture, "PNG"))).getexif()
    assert back.get(274, 1) == 1
    assert back[271] == "maker"


@pytest.mark.parametrize("source", [COLOURS, DEEP], ids=["8", "16"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_profile_is_carried(source: np.ndarray, format: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = write_image(Picture(planes(source), icc=profile), format)
    assert read_image(data).icc == profile


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not an image"),
        (b"GIF89a" + bytes(9), "unreadable|not an image"),
        (saved(COLOURS, "GIF") if False else b"hello world", "not an image"),
        (saved(COLOURS[..., :3])[:200], "unreadable"),
        (saved(COLOURS[..., :3], "TIFF")[:60], "unreadable|not an image"),
    ],
)
def test_unreadable(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_image(data)


def test_every_truncation_of_a_png_is_one_clear_error() -> None:
    data = saved(DEEP[..., 0])
    for cut in range(0, len(data) - 20, 7):
        with pytest.raises(ValueError):
            read_image(data[:cut])


def test_what_a_format_cannot_hold() -> None:
    with pytest.raises(ValueError, match="JPEG holds no alpha"):
        write_image(Picture(planes(COLOURS), alpha=COLOURS[..., 3]), "JPEG")
    assert read_image(write_image(Picture(planes(DEEP)), "BMP")).depth == 8
    with pytest.raises(ValueError, match=r"\.gif: expected one of"):
        media.suffix_format(Path("x.gif"))


def test_several_pictures_in_one_file() -> None:
    out = io.BytesIO()
    frames = [Image.fromarray(COLOURS[..., :3]) for _ in range(2)]
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="holds 2 pictures"):
        read_image(out.getvalue())


@pytest.mark.parametrize("source", [COLOURS, DEEP], ids=["8", "16"])
def test_planes_are_lossless_and_checked(source: np.ndarray) -> None:
    depth = source.itemsize * 8
    data = write_plane(source[..., 3])
    np.testing.assert_array_equal(read_plane(data, (14, 9), depth), source[..., 3])
    for size, bits in (((9, 14), depth), ((14, 9), 24 - depth)):
        with pytest.raises(ValueError, match="expected a"):
            read_plane(data, size, bits)
    with pytest.raises(ValueError, match="unreadable plane"):
        read_plane(data[:30], (14, 9), depth)


def test_the_first_picture_of_a_phone_jpeg() -> None:
    out = io.BytesIO()
    first, second = (Image.fromarray(COLOURS[..., i : i + 3].copy()) for i in (0, 1))
    first.save(out, "MPO", save_all=True, append_images=[second], quality=95)
    expected = np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGB"))
    assert torch.equal(read_image(out.getvalue()).pixels, planes(expected))


def test_deep_grey_with_a_transparent_value() -> None:
    grey = DEEP[..., 0].copy()
    grey[2, 3] = 777
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "PNG", transparency=777)
    picture = read_image(out.getvalue())
    np.testing.assert_array_equal(picture.alpha, np.where(grey == 777, 0, 65535))


@pytest.mark.parametrize(("photometric", "channels"), [("separated", 4), ("miniswhite", 1)])
def test_deep_tiffs_of_other_colours_are_refused(photometric: str, channels: int) -> None:
    import tifffile

    out = io.BytesIO()
    samples = DEEP[..., :channels] if channels > 1 else DEEP[..., 0]
    tifffile.imwrite(out, samples, photometric=photometric, planarconfig="contig" if channels > 1 else None)
    with pytest.raises(ValueError, match="16-bit TIFF that is neither grey nor RGB"):
        read_image(out.getvalue())


def test_exif_of_a_tiff_is_of_the_photograph() -> None:
    exif = Image.Exif()
    exif[271], exif[274] = "maker", 6
    block = read_image(saved(COLOURS[..., :3], "TIFF", exif=exif)).exif
    assert block is not None
    again = Image.Exif()
    again.load(block)
    assert dict(again) == {271: "maker"}


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_damaged_exif_is_none(format: str) -> None:
    picture = read_image(saved(COLOURS[..., :3], format, exif=b"Exif\0\0garbage!"))
    assert (picture.exif, picture.oriented) == (None, False)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "AVIF", "WEBP", "JPEG"])
def test_hostile_exif_is_written_or_refused(format: str) -> None:
    try:
        data = write_image(Picture(planes(COLOURS), exif=b"garbage!"), format)
    except ValueError as error:
        assert f"{format} cannot hold" in str(error)
    else:
        assert read_image(data).pixels.shape == (3, 9, 14)


def test_damaged_avifs_are_refused_or_read() -> None:
    data = bytearray(saved(np.tile(COLOURS[..., :3], (8, 8, 1)), "AVIF"))
    for _ in range(300):
        flipped = bytearray(data)
        flipped[RNG.integers(len(data))] ^= 1 << int(RNG.integers(8))
        try:
            read_image(bytes(flipped))
        except ValueError as error:
            assert "\n" not in str(error)
