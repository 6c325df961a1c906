"""Stem latents: songs of `.cdm` files, entropy-decoded in the workers, scaled on the device.

    bytes of the chunks that a window needs --entropy decoding--> integers --from_symbols--> latents     (no sound)

Validation needs the sound that the held-out songs were encoded from: what is found is decoded, and compared with that.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from codomain.codecs import bitstream, recording
from codomain.codecs.codec import Codec
from codomain.codecs.coder import BitstreamError
from codomain.codecs.files import view
from codomain.codecs.load import load, name_of
from codomain.codecs.sound import FORMATS
from codomain.tasks.latents import scaled
from codomain.tasks.learner import about_codec
from codomain.tasks.songs import Song, check_forms, find, form_of, read_sound
from codomain.tasks.stems import Place, Stems
from jaxtyping import Float, Int32, Shaped
from torch import Tensor


class StemLatents(Stems):
    """Batches of latents of mixtures and their stems, as `Codec.read_latents` returns them; a cell is a latent.

    Args:
        root: see `tasks/songs.py`; `.cdm` files of one model of sound, whose qualities may differ.
        originals: folder of the same tree, of the sound that the files were encoded from, of the validation songs at
            least; by default the sound lies beside them.
        crop, val_crop, val_excerpts, batch_size, remix, workers, val_share, seed: as of `Stems`.
        memory_mb: of integers once decoded that are kept, by all workers together.

    Raises:
        ValueError: for damaged files, files of several models, of pictures or video; of a song, other channels than the
            codec's, unequal lengths, originals that are missing or differ; and as `Stems` and `songs.find`.
    """

    def __init__(
        self,
        root: Path,
        originals: Path | None = None,
        crop: int = 512,
        val_crop: int = 1024,
        val_excerpts: int = 6,
        batch_size: int = 8,
        remix: float = 0.5,
        workers: int = 0,
        memory_mb: int = 1500,
        val_share: float = 0.2,
        seed: int = 0,
    ) -> None:
        songs, stems = find(root, {".cdm"})
        self.codec, self.layouts, self.qualities = _check(songs)
        super().__init__(
            [song._replace(cells=self.layouts[song.files[0]].grid) for song in songs],
            stems,
            crop=crop,
            val_crop=val_crop,
            val_excerpts=val_excerpts,
            batch_size=batch_size,
            remix=remix,
            workers=workers,
            val_share=val_share,
            seed=seed,
        )
        self.channels, self.cell = self.codec.latent_dim, self.codec.stride
        self.sample_rate = next(iter(self.layouts.values())).form.sample_rate
        self.codec.bottleneck.tables()  # workers inherit them
        self.scaler = copy.deepcopy(self.codec.bottleneck)  # the workers keep theirs where it is
        self.room, self.kept = (memory_mb << 20) // max(1, workers), dict[tuple[Path, int], Tensor]()
        self.originals = {song.name: self._originals(song, root, originals) for song in self.val_songs}

    def read(self, path: Path, start: int, stop: int) -> tuple[Int32[Tensor, "s n"], int]:
        """Return integers by entropy decoding of the chunks that hold them alone, and the quality index."""
        regions = self.layouts[path].regions
        inside = [i for i, region in enumerate(regions) if region.start < stop and region.stop > start]
        parts = torch.cat([self._region(path, i) for i in inside], -1)
        first = regions[inside[0]].start
        return parts[:, start - first : stop - first].int(), self.qualities[path]

    def read_sounds(self, place: Place) -> Float[Tensor, "k c t"]:
        """Return the stems that files were encoded from."""
        start, stop = (self.cell * n for n in (place.start, place.start + self.val_crop))
        return torch.stack([read_sound(path, start, stop) for path in self.originals[place.song.name]])

    def to_signals(self, x: Shaped[Tensor, "b s n"], quality: tuple[int, ...]) -> Float[Tensor, "b d n"]:
        """Return latents, of the same scale at every quality."""
        return scaled(self.scaler.to(x.device), x, quality)

    def to_sound(self, y: Float[Tensor, "b d n"], quality: tuple[int, ...]) -> Float[Tensor, "b c t"]:
        """Decode latents, each as a file of its own."""
        codec = self.codec.to(y.device)
        has_rates = codec.bottleneck.has_rates
        rates = [index / 4 if has_rates else None for index in quality]
        return torch.cat([codec.decode(one[None], quality=rate) for one, rate in zip(y, rates, strict=True)])

    def describe(self) -> dict[str, Any]:
        """Return the codec's name and digest, and the sample rate of the songs."""
        return about_codec(self.codec) | {"sample_rate": self.sample_rate}

    def _region(self, path: Path, i: int) -> Shaped[Tensor, "s _"]:
        """The integers of a chunk, from memory if they are kept; 16 bits hold nearly all of them."""
        found = self.kept.get((path, i))
        if found is None:
            layout = self.layouts[path]
            wanted = {layout.chunk(n, i, 0) for n in range(self.codec.bottleneck.layers)}
            try:
                (found,) = recording.symbols(layout, bitstream.read(view(path), wanted=wanted), range(i, i + 1))
            except (ValueError, OSError) as error:
                raise ValueError(f"{path}: {error}") from None
            short = found.to(torch.int16)
            found = short if torch.equal(short.int(), found) else found
            if found.nbytes <= self.room:
                self.room -= found.nbytes
                self.kept[path, i] = found
        return found

    def _originals(self, song: Song, root: Path, originals: Path | None) -> list[Path]:
        folder = (originals or root) / song.files[0].parent.relative_to(root)
        paths = []
        for path in song.files[1:]:
            found = [folder / (path.stem + suffix) for suffix in FORMATS if (folder / (path.stem + suffix)).is_file()]
            if len(found) != 1:
                raise ValueError(
                    f"{folder}: expected the sound that {path.name} was encoded from, to compare with: "
                    "--data.originals names the folder of such folders"
                )
            form, coded = form_of(found[0]), self.layouts[path].form
            if form != (coded.channels, coded.samples, coded.sample_rate):
                raise ValueError(f"{found[0]}: {path} was encoded from other sound: channels, samples, rate differ")
            paths += found
        return paths


def _check(songs: list[Song]) -> tuple[Codec, dict[Path, recording.Layout], dict[Path, int]]:
    """Return the codec of all files, their layouts and the indices of their qualities; every byte is looked at."""
    models: dict[str, list[Path]] = {}
    layouts, qualities, expected = {}, {}, None
    for song in songs:
        forms: list[tuple[int, int, int]] = []
        for path in song.files:
            try:
                file = bitstream.read(view(path))
                name = name_of(file.header.model)
                if file.header.kind != "sound":
                    raise BitstreamError(f"holds {file.header.kind}; expected sound")
                codec = load(name)
                layout = recording.layout_of(codec, file)
            except (ValueError, OSError) as error:
                raise ValueError(f"{path}: {error}") from None
            form = layout.form
            if form.channels != codec.channels or layout.samples != form.samples:
                raise ValueError(
                    f"{path}: {form.channels} channels at {form.sample_rate} Hz; expected those of {name}, "
                    f"{codec.channels} at {codec.sample_rate or 'any'} Hz"
                )
            models.setdefault(name, []).append(path)
            forms.append((form.channels, form.samples, form.sample_rate))
            layouts[path], qualities[path] = layout, file.header.quality
        check_forms(song, forms, expected)
        expected = (forms[0][0], forms[0][2])
    if len(models) > 1:
        found = ", ".join(f"{name} ({len(own)} files such as {own[0]})" for name, own in models.items())
        raise ValueError(f"expected files of one model; found {found}")
    return load(next(iter(models))), layouts, qualities
