from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from codomain.codecs.colour import from_rgb, matrix_of, scaled_size, shrink, to_rgb, turn
from PIL import Image

WEIGHTS = {5: (0.299, 0.114), 6: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}


def noise(height: int = 32, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def rgb_of(planes: np.ndarray, matrix: int, full: bool) -> np.ndarray:
    """ITU-T H.273, equations in floating point."""
    y, cb, cr = planes.astype(float)
    y, cb, cr = (
        (y, cb - 128, cr - 128) if full else ((y - 16) * 255 / 219, (cb - 128) * 255 / 224, (cr - 128) * 255 / 224)
    )
    kr, kb = WEIGHTS[matrix]
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b], 2).clip(0, 255)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 2, 5, 6, 9])
def test_colours_are_those_of_the_standard(matrix: int, full: bool) -> None:
    planes = np.ascontiguousarray(noise().clip(16, 235).transpose(2, 0, 1))
    frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
    frame.colorspace, frame.color_range = matrix, 1 + full
    expected = rgb_of(planes, 6 if matrix == 2 else matrix, full)
    assert np.abs(to_rgb(frame) - expected).max() < 0.52


def test_an_untagged_frame_is_read_as_its_size_says() -> None:
    assert [matrix_of(*size) for size in ((720, 576), (1280, 720), (480, 640), (1280, 2), (720, 576))] == [
        6,
        1,
        1,
        1,
        6,
    ]
    assert matrix_of(1920, 1080, 6) == 6


@pytest.mark.parametrize(("width", "height"), [(48, 32), (1280, 4)])
def test_frames_are_written_as_they_are_read(width: int, height: int) -> None:
    x = noise(height, width)
    frame = from_rgb(x, "yuv444p")
    assert (frame.colorspace, frame.color_range) == (matrix_of(width, height), 1)
    assert np.abs(to_rgb(frame).astype(int) - x).max() <= 2
    assert np.array_equal(to_rgb(from_rgb(x, "bgr0")), x)


def test_ten_bits_are_rounded() -> None:
    x = noise()
    assert np.array_equal(to_rgb(from_rgb(x, "yuv444p10le")), x)


@pytest.mark.parametrize(("n", "size"), [(2, (47, 31)), (3, (48, 32)), (4, (48, 32)), (64, (48, 32)), (2, (1, 1))])
def test_areas_are_averaged_exactly(n: int, size: tuple[int, int]) -> None:
    x = noise(size[1], size[0])
    y = shrink(x, Fraction(1, n))
    assert (y.shape[1], y.shape[0]) == scaled_size(*size, Fraction(1, n)) == (-(-size[0] // n), -(-size[1] // n))
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            mean = x[n * i : n * i + n, n * j : n * j + n].reshape(-1, 3).astype(float).mean(0)
            assert np.array_equal(y[i, j], np.floor(mean + 0.5))


def test_other_scales_are_areas_too() -> None:
    x = noise()
    y = shrink(x, Fraction(2, 3))
    assert (y.shape[1], y.shape[0]) == scaled_size(48, 32, Fraction(2, 3)) == (32, 21)
    assert np.abs(y.astype(int) - np.asarray(Image.fromarray(x).resize((32, 21), Image.Resampling.BOX))).max() == 0
    assert abs(y.mean() - x.mean()) < 1
    assert shrink(x, Fraction(1)) is x


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1, 2), Fraction(3, 2)])
def test_a_scale_that_makes_no_sense(scale: Fraction) -> None:
    with pytest.raises(ValueError, match="expected a scale above 0 and at most 1; found"):
        scaled_size(48, 32, scale)


def test_turning_inverts() -> None:
    x = noise()
    assert np.array_equal(turn(x, (0, 1, -1, 0)), np.rot90(x, -1))
    assert np.array_equal(turn(turn(x, (0, 1, -1, 0)), (0, -1, 1, 0)), x)
    assert np.array_equal(turn(x, (1, 0, 0, 1)), x)
