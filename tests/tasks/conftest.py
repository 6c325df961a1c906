from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import soundfile
from codomain.codecs.cli import main
from PIL import Image

WAVES = {"fine": 0.9, "rough": 0.25}  # classes: radians a pixel; the one is reddish, the other bluish
TINT = np.array([40, 0, -40])


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of two textures and tints, in class folders, 64 x 48, PNG."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    for name, pitch in WAVES.items():
        (folder / name).mkdir()
        for i in range(10):
            angle, phase = rng.uniform(0, np.pi, 2)
            wave = np.sin(pitch * (x * np.cos(angle) + y * np.sin(angle)) + 2 * phase)
            pixels = 128 + 60 * wave[..., None] + rng.normal(0, 5, (48, 64, 3)) + rng.uniform(-20, 20, 3)
            pixels += TINT if name == "fine" else -TINT
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{name}{i}.png")
    return folder


@pytest.fixture(scope="session")
def latents(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `.cdm` files of walloc-rgb-16x."""
    folder = tmp_path_factory.mktemp("latents") / "small"
    assert main(["encode", str(pictures), str(folder), "--model", "walloc-rgb-16x"]) == 0
    return folder


def shard(path: Path, members: dict[str, bytes]) -> Path:
    """Write a tar file as WebDataset does: the members in their order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="session")
def make_shard() -> Callable[[Path, dict[str, bytes]], Path]:
    return shard


@pytest.fixture(scope="session")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two faces, one of which is for validation; matplotlib brings them."""
    folder = tmp_path_factory.mktemp("fonts")
    for name in ("DejaVuSans.ttf", "DejaVuSans-Oblique.ttf"):
        shutil.copy(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, folder)
    return folder


@pytest.fixture(scope="session")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight songs of 2 s, stereo, FLAC: low notes, noise in bursts, chords in the same bands, and their sum."""
    folder, rng = tmp_path_factory.mktemp("stems"), np.random.default_rng(0)
    t = np.arange(2 * 44100) / 44100
    for i in range(8):
        song: dict[str, np.ndarray] = {}
        song["bass"] = 0.25 * np.sin(2 * np.pi * rng.uniform(50, 90) * t)
        noise = rng.normal(0, 1, len(t) + 2)
        song["drums"] = (noise[2:] + noise[1:-1] + noise[:-2]) / 3 * (t % rng.uniform(0.2, 0.3) < 0.04)
        chord = rng.uniform(200, 6000, (12, 1))
        song["other"] = 0.05 * np.sin(2 * np.pi * chord * t).sum(0)
        parts = {name: np.stack([x, rng.uniform(0.3, 1) * x], 1).clip(-1, 1) for name, x in song.items()}
        integers = {name: np.rint(10000 * x).astype(np.int16) for name, x in parts.items()}
        integers["mixture"] = sum(integers.values())
        (folder / f"song{i}").mkdir()
        for name, samples in integers.items():
            soundfile.write(folder / f"song{i}" / f"{name}.flac", samples, 44100)
    return folder


@pytest.fixture(scope="session")
def stem_files(stems: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `.cdm` files of walloc-stereo-5x."""
    folder = tmp_path_factory.mktemp("stem_files") / "coded"
    assert main(["encode", str(stems), str(folder), "--model", "walloc-stereo-5x"]) == 0
    return folder
