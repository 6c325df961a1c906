"""Render: songs as stems, from MIDI files: what `separate` learns from.

    song.mid --notes of one group--> fluidsynth --> float stems --one gain--> 16 bits    drums, bass, other
                                                                       sum of those --> mixture

    python -m codomain.tasks.render MIDI SOUNDFONT STEMS        STEMS/song/{drums,bass,other,mixture}.flac

Groups are those of General MIDI: channel 10 is drums, programs 33 to 40 (of 1 to 128) are bass, all else is other. A
song without one of the groups is left out. Every group is played with all but the notes of the others, so that tempo
and controllers are the song's; the mixture is the sum of the stems, sample by sample, as integers.

Needs mido (`pip install '.[stems]'`), fluidsynth and a sound font, of Debian `fluidsynth` and `fluid-soundfont-gm`;
songs are in `openttd-openmsx`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from codomain.codecs.progress import progress
from codomain.tasks.songs import MIXTURE
from jaxtyping import Float, Int16

STEMS = ("drums", "bass", "other")
SAMPLE_RATE = 44100
PEAK = 0.95  # of the loudest of the files of a song
DRUM_CHANNEL = 9  # counted from 0
BASS_PROGRAMS = range(32, 40)  # counted from 0


def render(midi: Path, sound_font: Path, out: Path) -> list[str]:
    """Render every MIDI file of a folder that is not yet in ``out``; return the names of songs without all groups.

    Raises:
        ValueError: without songs, a sound font, fluidsynth or mido; for a file that is no MIDI.
    """
    songs = sorted(path for path in midi.rglob("*") if path.suffix.lower() in (".mid", ".midi"))
    if not songs:
        raise ValueError(f"{midi}: found no songs (.mid .midi)")
    twice = sorted({a.stem for a, b in pairwise(sorted(songs, key=lambda path: path.stem)) if a.stem == b.stem})
    if twice:
        raise ValueError(f"{midi}: two songs are named {', '.join(twice)}")
    if not sound_font.is_file() or not _is_sound_font(sound_font):  # fluidsynth would take its own in place of it
        raise ValueError(f"{sound_font}: no sound font; Debian has one in fluid-soundfont-gm")
    if shutil.which("fluidsynth") is None:
        raise ValueError("fluidsynth is not installed: apt-get install fluidsynth")
    left_out = []
    with progress(len(songs), "render", logged=True) as bar:
        for song in songs:
            bar.begin(song.name)
            folder = out / song.stem
            if not folder.exists() and not _render(song, sound_font, folder):
                left_out.append(song.name)
            bar.finish()
    return left_out


def solo(song: Path, target: Path) -> dict[str, int]:
    """Write a song once for each stem, ``target/drums.mid`` and so on, with its notes alone; return how many those are.

    Raises:
        ValueError: if it is no MIDI file, or without mido.
    """
    try:
        import mido
    except ImportError:
        raise ValueError("mido is not installed: pip install '.[stems]'") from None
    try:
        source = mido.MidiFile(song, clip=True)
        events = list(mido.merge_tracks(source.tracks))
    except (OSError, ValueError, EOFError, IndexError, KeyError) as error:
        raise ValueError(f"{song}: not a MIDI file that can be read ({error or 'it ends early'})") from None
    program, counts = [0] * 16, dict.fromkeys(STEMS, 0)
    tracks = {stem: mido.MidiTrack() for stem in STEMS}
    for event in events:
        owner = None
        if event.type == "program_change":
            program[event.channel] = event.program
        elif event.type == "note_on" and event.velocity:
            is_bass = program[event.channel] in BASS_PROGRAMS
            owner = "drums" if event.channel == DRUM_CHANNEL else "bass" if is_bass else "other"
            counts[owner] += 1
        for stem, track in tracks.items():  # a note of velocity 0 is none, and keeps the time
            track.append(event if owner in (None, stem) else event.copy(velocity=0))
    for stem, track in tracks.items():
        mido.MidiFile(type=0, ticks_per_beat=source.ticks_per_beat, tracks=[track]).save(target / f"{stem}.mid")
    return counts


def mix(stems: list[Float[np.ndarray, "_ 2"]]) -> list[Int16[np.ndarray, "n 2"]]:
    """Return stems of equal length, as loud as one gain for all allows, in 16 bits; and last, their sum.

    Raises:
        ValueError: for silence.
    """
    length = max(map(len, stems))
    padded = np.stack([np.pad(stem, ((0, length - len(stem)), (0, 0))) for stem in stems])
    peak = max(float(np.abs(padded).max()), float(np.abs(padded.sum(0)).max()))
    if not peak:
        raise ValueError("all stems are silent")
    integers = np.rint(padded * (PEAK * 32767 / peak)).astype(np.int16)
    return [*integers, integers.sum(0, dtype=np.int16)]


def _render(song: Path, sound_font: Path, folder: Path) -> bool:
    """Render a song into a folder that appears when it is whole; False if it lacks a group."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        if not all(solo(song, work).values()):
            return False
        sounds = [_play(work / f"{stem}.mid", sound_font) for stem in STEMS]
    if not all(sound.any() for sound in sounds):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
    try:
        for name, samples in zip((*STEMS, MIXTURE), mix(sounds), strict=True):
            soundfile.write(partial / f"{name}.flac", samples, SAMPLE_RATE)
        partial.chmod(0o755)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _is_sound_font(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"sfbk"


def _play(midi: Path, sound_font: Path) -> Float[np.ndarray, "t 2"]:
    wave = midi.with_suffix(".wav")
    words = ["fluidsynth", "-q", "-n", "-i", "-F", str(wave), "-T", "wav", "-O", "float", "-r", str(SAMPLE_RATE)]
    done = subprocess.run([*words, str(sound_font), str(midi)], capture_output=True, text=True)
    if done.returncode or not wave.exists():
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ValueError(f"fluidsynth failed on {midi.name}: {said}")
    samples: np.ndarray = soundfile.read(wave, dtype="float32", always_2d=True)[0]
    return samples


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python -m codomain.tasks.render MIDI SOUNDFONT STEMS")
    try:
        without = render(*map(Path, sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    if without:
        print(f"left out, without all of {', '.join(STEMS)}: {', '.join(without)}", file=sys.stderr)
