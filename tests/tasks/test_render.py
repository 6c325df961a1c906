from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from codomain.tasks import render as module
from codomain.tasks.render import STEMS, mix, render, solo

FONT = b"RIFF\0\0\0\0sfbk"
FONTS = sorted(Path("/usr/share/sounds").glob("sf[23]/*.sf[23]"))
CHANNELS = {"drums": (9, 0, 38), "bass": (1, 33, 40), "other": (0, 0, 64)}  # channel, program, note


def midi(path: Path, groups: tuple[str, ...] = STEMS) -> Path:
    """A song of two tracks: tempo, then four notes of each group, which sound together."""
    song, track = mido.MidiFile(ticks_per_beat=120), mido.MidiTrack()
    song.tracks += [mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=250000)]), track]
    used = [CHANNELS[group] for group in groups]
    track += [mido.Message("program_change", channel=c, program=program) for c, program, _ in used]
    for _ in range(4):
        track += [mido.Message("note_on", channel=c, note=note, velocity=90) for c, _, note in used]
        offs = [mido.Message("note_off", channel=c, note=note) for c, _, note in used]
        track += [message.copy(time=0 if i else 60) for i, message in enumerate(offs)]
    song.save(path)
    return path


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In place of fluidsynth: a tone for each note, as long as it is; the commands."""
    words: list[str] = []

    def play(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        words.extend(command)
        song, sound = mido.MidiFile(command[-1]), np.zeros((module.SAMPLE_RATE, 2))
        seconds = 0.0
        for message in song:
            seconds += message.time
            if message.type == "note_on" and message.velocity:
                at = round(seconds * module.SAMPLE_RATE)
                sound[at : at + 2000] += np.sin(np.arange(2000) * message.note / 200)[:, None]
        if any(sound[-1]):
            raise AssertionError
        soundfile.write(command[command.index("-F") + 1], sound, module.SAMPLE_RATE, subtype="FLOAT")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", play)
    monkeypatch.setattr(module.shutil, "which", lambda _: "fluidsynth")
    return words


def test_a_solo_has_its_notes_and_the_time_of_all(tmp_path: Path) -> None:
    song = midi(tmp_path / "song.mid")
    assert solo(song, tmp_path) == {"drums": 4, "bass": 4, "other": 4}
    for stem, (channel, _, note) in CHANNELS.items():
        found = mido.MidiFile(tmp_path / f"{stem}.mid")
        assert found.length == pytest.approx(mido.MidiFile(song).length) and found.length == pytest.approx(0.5)
        notes = [m for m in found if m.type == "note_on" and m.velocity]
        assert {(m.channel, m.note) for m in notes} == {(channel, note)} and len(notes) == 4


def test_a_channel_changes_its_group_with_its_program(tmp_path: Path) -> None:
    track = mido.MidiTrack(mido.Message("note_on", note=50, velocity=1) for _ in range(2))
    track.insert(1, mido.Message("program_change", program=39))
    track.append(mido.Message("program_change", program=40))
    track.append(mido.Message("note_on", note=50, velocity=1))
    mido.MidiFile(tracks=[track]).save(tmp_path / "song.mid")
    assert solo(tmp_path / "song.mid", tmp_path) == {"drums": 0, "bass": 1, "other": 2}


def test_stems_sum_to_the_mixture_and_nothing_clips() -> None:
    rng = np.random.default_rng(0)
    sounds = [rng.normal(0, 1, (n, 2)).astype(np.float32) for n in (1000, 900, 1100)]
    *stems, mixture = mix(sounds)
    assert np.array_equal(np.sum(stems, 0, dtype=np.int64), mixture) and mixture.shape == (1100, 2)
    assert np.abs(np.array([*stems, mixture]).astype(int)).max() == pytest.approx(0.95 * 32767, abs=2)
    gain = stems[0][:1000].astype(np.float64) / sounds[0]
    assert np.allclose(stems[1][:900], gain.mean() * sounds[1], atol=1) and not stems[1][900:].any()
    with pytest.raises(ValueError, match="all stems are silent"):
        mix([np.zeros((5, 2), np.float32)])


def test_a_folder_of_songs(tmp_path: Path, played: list[str]) -> None:
    songs, font, out = tmp_path / "songs", tmp_path / "font.sf2", tmp_path / "out"
    songs.mkdir()
    font.write_bytes(FONT)
    midi(songs / "a.mid")
    midi(songs / "b.MID", ("drums", "other"))
    assert render(songs, font, out) == ["b.MID"]
    assert sorted(path.name for path in out.rglob("*")) == [
        "a",
        "bass.flac",
        "drums.flac",
        "mixture.flac",
        "other.flac",
    ]
    parts = {path.stem: soundfile.read(path, dtype="int16") for path in (out / "a").iterdir()}
    mixture, rate = parts.pop("mixture")
    assert rate == 44100 and np.array_equal(sum(samples for samples, _ in parts.values()), mixture)
    played.clear()
    render(songs, font, out)
    assert not played  # what exists is kept
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="found no songs"):
        render(tmp_path / "none", font, out)
    for name in ("x.mid", "x.midi"):
        (tmp_path / "none" / name).write_bytes(b"")
    with pytest.raises(ValueError, match="two songs are named x"):
        render(tmp_path / "none", font, out)
    with pytest.raises(ValueError, match=r"nothing\.sf2: no sound font"):
        render(songs, tmp_path / "nothing.sf2", out)
    with pytest.raises(ValueError, match=r"a\.mid: no sound font"):
        render(songs, songs / "a.mid", out)
    (songs / "c.mid").write_bytes(b"MThd\0\0")
    with pytest.raises(ValueError, match=r"c\.mid: not a MIDI file that can be read"):
        render(songs, font, out)


def test_without_fluidsynth_there_is_one_line(tmp_path: Path) -> None:
    midi(tmp_path / "a.mid")
    (tmp_path / "font.sf2").write_bytes(FONT)
    words = [sys.executable, "-m", "codomain.tasks.render", str(tmp_path), str(tmp_path / "font.sf2"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, env={"PATH": ""})
    assert (done.returncode, done.stderr) == (1, "fluidsynth is not installed: apt-get install fluidsynth\n")
    done = subprocess.run(words[:3], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "usage: python -m codomain.tasks.render MIDI SOUNDFONT STEMS\n")


@pytest.mark.skipif(shutil.which("fluidsynth") is None or not FONTS, reason="fluidsynth or a sound font is missing")
def test_fluidsynth_plays(tmp_path: Path) -> None:
    midi(tmp_path / "a.mid")
    assert render(tmp_path, FONTS[0], tmp_path / "out") == []
    parts = {path.stem: soundfile.read(path, dtype="int16")[0] for path in (tmp_path / "out" / "a").iterdir()}
    mixture = parts.pop("mixture")
    assert np.array_equal(sum(parts.values()), mixture)
    assert sorted(parts) == sorted(STEMS) and all(np.abs(part).max() > 100 for part in parts.values())
    assert len(mixture) > module.SAMPLE_RATE // 2
