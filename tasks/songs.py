"""Songs: folders of stems and their mixture, as they lie on disk.

    ROOT/.../song/{bass,drums,other,mixture}.SUFFIX

What lies beside a mixture are its stems; their names are the classes, and every song has the same.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

MIXTURE = "mixture"


class Song(NamedTuple):
    """The files of a song."""

    name: str
    files: tuple[Path, ...]  # the mixture, then the stems in the order of their names
    cells: int = 0  # length


def find(root: Path, suffixes: Container[str]) -> tuple[list[Song], list[str]]:
    """Return the songs of a folder, sorted, without their lengths, and the names of their stems.

    Raises:
        ValueError: without songs, for one without a mixture or of other stems than the first, two of one name.
    """
    folders: dict[Path, dict[str, Path]] = {}
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in suffixes and not hidden:
            files = folders.setdefault(path.parent, {})
            if path.stem in files:
                raise ValueError(f"{path.parent}: holds {path.stem} twice, {files[path.stem].name} and {path.name}")
            files[path.stem] = path
    if not folders:
        words = " ".join(sorted(suffixes))  # type: ignore[call-overload]
        raise ValueError(f"{root}: found no songs: expected a folder of stems and their mixture for each ({words})")
    songs: list[Song] = []
    stems: list[str] = []
    for folder, files in folders.items():
        if MIXTURE not in files:
            raise ValueError(f"{folder}: holds {', '.join(files)}; expected {MIXTURE} too")
        found = sorted(set(files) - {MIXTURE})
        stems = stems or found
        if found != stems or len(found) < 2:
            raise ValueError(
                f"{folder}: has the stems {', '.join(found) or 'none'}; "
                + (f"expected {', '.join(stems)}, as {songs[0].name} has" if songs else "expected two or more")
            )
        songs.append(Song(folder.name, tuple(files[name] for name in (MIXTURE, *stems))))
    names = [song.name for song in songs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{root}: two songs are named {', '.join(twice)}")
    return songs, stems


def read_sound(path: Path, start: int, stop: int) -> Float[Tensor, "c t"]:
    """Return samples [start, stop) of a sound file, float32 in [-1, 1]; silence follows its end.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(min(start, file.frames))
            samples = file.read(stop - start, dtype="float32", always_2d=True, fill_value=0)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    return torch.from_numpy(samples.T).clamp(-1, 1).contiguous()


def form_of(path: Path) -> tuple[int, int, int]:
    """Return channels, samples and sample rate of a sound file.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    return info.channels, info.frames, info.samplerate


def check_forms(song: Song, forms: Sequence[tuple[int, int, int]], expected: tuple[int, int] | None) -> None:
    """Refuse a song whose files are not of equal length, or of other channels or another rate than expected.

    Args:
        song: for the message.
        forms: channels, samples and sample rate of each of its files.
        expected: channels and sample rate, of the songs before it.

    Raises:
        ValueError: names a file that differs.
    """
    for path, form in zip(song.files, forms, strict=True):
        if form != forms[0]:
            raise ValueError(f"{path}: {_said(form)}; {song.files[0].name} beside it: {_said(forms[0])}")
    if expected is not None and (forms[0][0], forms[0][2]) != expected:
        raise ValueError(
            f"{song.files[0]}: {_said(forms[0])}; other songs are of {expected[0]} channels at {expected[1]} Hz"
        )


def _said(form: tuple[int, int, int]) -> str:
    return f"{form[0]} channels of {form[1]} samples at {form[2]} Hz"
