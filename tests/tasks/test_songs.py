from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codomain.tasks.songs import MIXTURE, check_forms, find, form_of, read_sound


def test_songs_are_found(stems: Path, tmp_path: Path) -> None:
    songs, names = find(stems, {".flac"})
    assert names == ["bass", "drums", "other"]
    assert [song.name for song in songs] == [f"song{i}" for i in range(8)]
    assert [path.stem for path in songs[3].files] == [MIXTURE, *names]
    shutil.copytree(stems / "song0", tmp_path / "deep" / "down" / "song0")
    shutil.copytree(stems / "song0", tmp_path / ".song1-x.part")  # what a rendering has not finished
    assert [song.name for song in find(tmp_path, {".flac"})[0]] == ["song0"]


def test_silence_follows_the_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((100, 2), 0.5), 8000, subtype="FLOAT")
    x = read_sound(tmp_path / "a.wav", 90, 120)
    assert x.shape == (2, 30) and float(x[:, :10].min()) == 0.5 and not x[:, 10:].any()
    assert not read_sound(tmp_path / "a.wav", 200, 210).any()
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    for read in (form_of, lambda path: read_sound(path, 0, 1)):
        with pytest.raises(ValueError, match=r"b\.wav: "):
            read(tmp_path / "b.wav")


def test_bad_folders(stems: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no songs: expected a folder of stems and their mixture"):
        find(tmp_path, {".flac"})
    root = Path(shutil.copytree(stems, tmp_path / "songs"))
    shutil.copy(root / "song2" / "bass.flac", root / "song2" / "bass.wav")
    with pytest.raises(ValueError, match=r"song2: holds bass twice, bass\.flac and bass\.wav"):
        find(root, {".flac", ".wav"})
    (root / "song2" / "bass.flac").unlink()
    with pytest.raises(
        ValueError, match="song2: has the stems drums, other; expected bass, drums, other, as song0 has"
    ):
        find(root, {".flac"})
    (root / "song0" / "mixture.flac").unlink()
    with pytest.raises(ValueError, match="song0: holds bass, drums, other; expected mixture too"):
        find(root, {".flac"})
    shutil.copytree(stems / "song0", tmp_path / "a" / "song")
    shutil.copytree(stems / "song0", tmp_path / "b" / "song")
    shutil.rmtree(root)
    with pytest.raises(ValueError, match="two songs are named song"):
        find(tmp_path, {".flac"})
    for name in ("drums", "other"):
        (tmp_path / "a" / "song" / f"{name}.flac").unlink()
    with pytest.raises(ValueError, match="song: has the stems bass; expected two or more"):
        find(tmp_path, {".flac"})


def test_songs_must_be_alike(stems: Path) -> None:
    song = find(stems, {".flac"})[0][0]
    with pytest.raises(ValueError, match=r"bass\.flac: 2 channels of 9 samples at 8 Hz; mixture\.flac beside it: .*10"):
        check_forms(song, [(2, 10, 8), (2, 9, 8), (2, 10, 8), (2, 10, 8)], None)
    with pytest.raises(ValueError, match=r"mixture\.flac: 2 channels .* 8 Hz; other songs are of 2 channels at 9 Hz"):
        check_forms(song, [(2, 10, 8)] * 4, (2, 9))
