from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs import bench_codec


def test_every_operation_of_ours_states_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_codec, "HEIGHT", 64)
    monkeypatch.setattr(bench_codec, "WIDTH", 96)
    monkeypatch.setattr(bench_codec, "is_installed", lambda package: False)
    with torch.inference_mode():
        rows = list(bench_codec.contenders())
        ours = [c for c in rows if c.library == "codomain walloc-rgb-16x"]
        assert [c.operation for c in ours] == [
            "compress, 64 x 96", "decompress, 64 x 96", "decompress, 64 x 96, fast", "entropy encode", "entropy decode",
            "compress, 16 of 192 x 256", "read, 16 of 192 x 256",
        ]  # fmt: skip
        compress, best, fast, *coding, write, read = ours
        assert rows[0] == compress
        assert compress.moved == 3 * 64 * 96 + len(compress.run())
        assert compress.flop == 64 * 96 * (126 + 2 * 192 * 12 / 64)
        assert 20e3 < best.flop / (64 * 96) < 200e3  # the network of the decoder: per pixel
        assert 100 < fast.flop / (64 * 96) < 300  # a linear one
        assert all(c.flop == 0 and c.moved > 4 * 64 * 96 * 12 / 64 for c in coding)
        assert write.amount == read.amount == len(write.run()) == len(read.run()) == 16
        assert [c.library for c in rows if c.library.startswith("Pillow")][::4] == [
            "Pillow WEBP 40", "Pillow JPEG 85", "Pillow AVIF 50",
        ]  # fmt: skip
        jpeg = {c.operation: c.run() for c in rows if c.library == "Pillow JPEG 85"}
    assert jpeg["compress, 64 x 96"][:2] == b"\xff\xd8"
    assert np.abs(jpeg["decompress, 64 x 96"].astype(int) - bench_codec.synthetic_picture(64, 96)).mean() < 10


def test_a_picture_is_cut_into_whole_tiles() -> None:
    picture = np.arange(5 * 7 * 3).reshape(5, 7, 3)
    tiles = bench_codec.cut(picture, (2, 3))
    assert tiles.shape == (4, 2, 3, 3)
    assert np.array_equal(tiles[3], picture[2:4, 3:6])


def test_the_picture_is_the_same_every_time() -> None:
    picture = bench_codec.synthetic_picture(64, 96)
    assert picture.shape == (64, 96, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, bench_codec.synthetic_picture(64, 96))
    assert 20 < picture.std() < 80
