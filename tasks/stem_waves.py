"""Stem waves: songs of sound files, transformed on the device: the baseline of what learns from latents of stems.

    samples --MDCT--> coefficients, as many as samples       (b, channels * cell, windows)

An MDCT is orthonormal, so errors of coefficients are errors of the waveform. Songs, their split, places of windows and
excerpts are those of `tasks/stem_latents.py`, where a cell is as long as a latent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from codomain.codecs.sound import FORMATS
from codomain.tasks.labelled import Stored
from codomain.tasks.mdct import inverse_mdct, mdct
from codomain.tasks.songs import check_forms, find, form_of, read_sound
from codomain.tasks.stems import Place, Stems
from jaxtyping import Float, Shaped
from torch import Tensor


class StemWaves(Stems):
    """Batches of coefficients of mixtures and their stems.

    Args:
        root: see `tasks/songs.py`; sound files, as FLAC and WAV.
        cell: samples between windows of the MDCT: of a latent of walloc-stereo-5x by default.
        crop, val_crop, val_excerpts, batch_size, remix, workers, val_share, seed: as of `Stems`.

    Raises:
        ValueError: for files that cannot be read, unequal lengths, channels or rates; and as `Stems` and `songs.find`.
    """

    def __init__(
        self,
        root: Path,
        cell: int = 256,
        crop: int = 512,
        val_crop: int = 1024,
        val_excerpts: int = 6,
        batch_size: int = 8,
        remix: float = 0.5,
        workers: int = 0,
        val_share: float = 0.2,
        seed: int = 0,
    ) -> None:
        songs, stems = find(root, set(FORMATS))
        expected = None
        for i, song in enumerate(songs):
            forms = [form_of(path) for path in song.files]
            check_forms(song, forms, expected)
            channels, samples, sample_rate = forms[0]
            expected = channels, sample_rate
            songs[i] = song._replace(cells=-(-samples // cell))
        super().__init__(
            songs,
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
        self.channels, self.cell, self.sample_rate = channels * cell, cell, sample_rate

    def read(self, path: Path, start: int, stop: int) -> tuple[Float[Tensor, "c t"], int]:
        """Return samples in [-1, 1], and no quality."""
        return read_sound(path, self.cell * start, self.cell * stop), 0

    def read_sounds(self, place: Place) -> Float[Tensor, "k c t"]:
        """Return the stems."""
        stop = place.start + self.val_crop
        return torch.stack([self.read(path, place.start, stop)[0] for path in place.song.files[1:]])

    def stored(self, jpeg: int) -> Stored:
        """Return what a validation window of a mixture is in its song's file; an MDCT has a window more."""
        n_bytes, (channels, cells) = super().stored(jpeg)
        return Stored(n_bytes, (channels, cells + 1))

    def to_signals(self, x: Shaped[Tensor, "b c t"], quality: tuple[int, ...]) -> Float[Tensor, "b d m"]:
        """Return coefficients."""
        return mdct(x, self.cell)

    def to_sound(self, y: Float[Tensor, "b d m"], quality: tuple[int, ...]) -> Float[Tensor, "b c t"]:
        """Return samples, clamped to [-1, 1]."""
        return inverse_mdct(y, self.cell).clamp(-1, 1)

    def describe(self) -> dict[str, Any]:
        """Return samples of a cell, and what sound it is of."""
        return {"cell": self.cell, "channels": self.channels // self.cell, "sample_rate": self.sample_rate}
