from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from codomain.codecs import bitstream

ROOT = Path(__file__).parents[1]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


def test_readme_blocks_run(tmp_path: Path) -> None:
    """Every ```sh and ```python block, in order, in a folder that holds photo.png and song.flac."""
    shutil.copy(ROOT / "tests/data/chelsea.png", tmp_path / "photo.png")
    (tmp_path / "photos").mkdir()
    shutil.copy(ROOT / "tests/data/chelsea.png", tmp_path / "photos")
    t = np.arange(21 * 44100) / 44100
    song = sum(
        np.sin(2 * np.pi * f * t) * np.exp(-3 * (t % pause)) for f, pause in ((220, 0.5), (277, 0.75), (330, 1.0))
    )
    soundfile.write(tmp_path / "song.flac", 0.2 * np.stack((song, np.roll(song, 99)), 1), 44100)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    assert len(blocks("sh")) >= 1
    assert len(blocks("python")) >= 1
    for block in blocks("sh"):
        subprocess.run(["bash", "-euc", block], cwd=tmp_path, env={"PATH": path, "HOME": str(tmp_path)}, check=True)
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True)


def test_doctests() -> None:
    assert doctest.testmod(bitstream).failed == 0
    assert doctest.testmod(bitstream).attempted > 0
