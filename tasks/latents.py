"""Latents: `.cdm` files with classes, entropy-decoded in the workers, scaled on the device.

    bytes --entropy decoding--> integers --from_symbols--> y        (no pixels)
            a worker                       the device

Everything that can be wrong with the files is found before training starts: every byte is checked once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from codomain.codecs import bitstream, files, recording
from codomain.codecs.bottleneck import Bottleneck
from codomain.codecs.codec import Codec
from codomain.codecs.coder import BitstreamError
from codomain.codecs.load import load, name_of
from codomain.tasks.labelled import MIRRORED, Item, Labelled, find, spaced, usual
from codomain.tasks.learner import about_codec
from codomain.tasks.mirror import fit
from jaxtyping import Float, Int32, Shaped
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

MIRROR_FILES = 48  # decoded to fit a mirror on
MIRROR_ERROR = 0.05  # above it, mirrored latents would be of another picture


class Form(NamedTuple):
    """What one model made of a signal."""

    model: str
    grid: tuple[int, ...]
    sample_rate: int = 0  # Hz, of sound that the codec takes at any


class Latents(Labelled):
    """Batches of latents (b, d, *grid), as `Codec.read_latents` returns them, from a folder or from shards.

    Files are of one model; their qualities and sizes may differ. Larger grids than the most frequent one are cut, a
    training signal at random, smaller ones lie among zeros.

    Augmentation is what latents have a counterpart of: windows of whole cells, and of images mirrors (`tasks/mirror.py`
    says how exact they are), fitted on decoded training files when training starts.

    Args:
        root: see `tasks/labelled.py`.
        batch_size: signals a step.
        shift: cells by which a training window is shorter than the grid; its place is random. 0 trains on the whole.
        mirror: axes of images mirrored at random in training: "none", "horizontal" (left and right) or "both".
        on_damage: of damaged files, whether they end the run before it starts, or are left out with a warning, their
            names in ``damaged.txt`` of the run.
        workers: processes that decode; 0 decodes in this one.
        val_share: share kept for validation.
        cache: whether a process keeps the integers that it has decoded, four bytes each.
        limit: of the training files, take this many.

    Raises:
        ValueError: for damaged files, files of several models, of unknown weights or of video, missing labels, empty
            classes; for latents that a mirror cannot be made of.
    """

    def __init__(
        self,
        root: Path,
        batch_size: int = 32,
        shift: int = 4,
        mirror: Literal["none", "horizontal", "both"] = "horizontal",
        on_damage: Literal["raise", "skip"] = "raise",
        workers: int = 0,
        val_share: float = 0.2,
        cache: bool = False,
        limit: int | None = None,
    ) -> None:
        items, classes = find(root, {".cdm"})
        forms, self.damaged = _check(items)
        if self.damaged:
            text = "; ".join(self.damaged[:3]) + ("; ..." if len(self.damaged) > 3 else "")
            if on_damage == "raise":
                raise ValueError(f"{len(self.damaged)} of {len(items)} files are damaged: {text}")
            rank_zero_warn(f"left out {len(self.damaged)} of {len(items)} files, damaged: {text}")
        items = [item for item in items if item in forms]
        self.codec, self.sample_rate = _one_model(forms)
        whole = usual([form.grid for form in forms.values()])
        if not 0 <= shift < min(whole):
            raise ValueError(f"shift is at least 0 and shorter than the grid, {whole}; found {shift}")
        super().__init__(
            items,
            classes,
            window=[n - shift for n in whole],
            whole=whole,
            cell=1,
            batch_size=batch_size,
            workers=workers,
            val_share=val_share,
            cache=cache,
            limit=limit,
        )
        self.channels, self.ndim = self.codec.latent_dim, self.codec.ndim
        self.axes = MIRRORED[mirror] if self.ndim == 2 else ()
        self.scaler = copy.deepcopy(self.codec.bottleneck)  # the workers keep theirs where it is

    def setup(self, stage: str) -> None:
        """Fit the mirrors; name the files that were left out, in ``damaged.txt`` of the run.

        Raises:
            ValueError: if the latents do not tell those of a mirrored picture.
        """
        folder = self.trainer.log_dir if self.trainer is not None and self.damaged else None  # all ranks ask
        if folder is not None and self.trainer is not None and self.trainer.is_global_zero:
            files.write(Path(folder) / "damaged.txt", "".join(f"{line}\n" for line in self.damaged).encode(), True)
        if stage == "fit" and not self.mirrors:
            pictures = list(self._pictures()) if self.axes else []
            for axis in self.axes:
                mirror = fit(self.codec, pictures, axis)
                if mirror.error > MIRROR_ERROR:
                    raise ValueError(
                        f"mirrored latents of {self.codec.name} lack {mirror.error:.0%} of their energy: "
                        "train with --data.mirror=none"
                    )
                self.mirrors.append(mirror)

    def read(self, data: bytes) -> tuple[Int32[Tensor, s * grid], int]:
        """Return the integers of a file, by entropy decoding alone, and its quality index."""
        return read_symbols(self.codec, data)

    def to_signal(self, x: Shaped[Tensor, "b s *grid"], quality: tuple[int, ...]) -> Float[Tensor, "b d *grid"]:
        """Return latents, of the same scale at every quality."""
        return scaled(self.scaler.to(x.device), x, quality)

    def describe(self) -> dict[str, Any]:
        """Return the codec's name and digest, and the sample rate of sound that the codec takes at any."""
        return about_codec(self.codec) | ({"sample_rate": self.sample_rate} if self.sample_rate else {})

    @torch.inference_mode()
    def _pictures(self) -> Iterator[Float[Tensor, "1 c h w"]]:
        for item in spaced(self.train_items, MIRROR_FILES):
            x, quality = self.read(item.read())
            rate = quality / 4 if self.codec.bottleneck.has_rates else None
            yield self.codec.decode(self.codec.bottleneck.from_symbols(x[None], quality), quality=rate)


def scaled(scaler: Bottleneck, x: Shaped[Tensor, "b s *grid"], quality: tuple[int, ...]) -> Float[Tensor, "b d *grid"]:
    """Return the latents that integers stand for, each at its quality index."""
    if len(set(quality)) == 1:
        return scaler.from_symbols(x, quality[0])
    return torch.cat([scaler.from_symbols(x[i : i + 1], index) for i, index in enumerate(quality)])


def read_symbols(codec: Codec, data: bytes) -> tuple[Int32[Tensor, s * grid], int]:
    """Return the integers of a file of one signal, and its quality index.

    Raises:
        BitstreamError: if the bytes are no such file of the codec's.
    """
    if codec.kind == "image":
        symbols, index = codec.read_symbols(data)
        return symbols[0], index
    file = bitstream.read(data)
    layout = recording.layout_of(codec, file)
    if layout.signals != 1:
        raise BitstreamError(f"the file holds {layout.signals} signals of {codec.channels} channels; expected one")
    return torch.cat(list(recording.symbols(layout, file, range(len(layout.regions)))), -1), file.header.quality


def _check(items: list[Item]) -> tuple[dict[Item, Form], list[str]]:
    """Return what intact files are, and what is wrong with the others, a line each."""
    forms, damaged = {}, []
    for item in items:
        try:
            file = bitstream.read(item.read())
            model = name_of(file.header.model)
        except (BitstreamError, OSError) as error:
            damaged.append(f"{item}: {error}")
            continue
        if file.header.kind == "video":
            raise ValueError(f"{item}: holds video; expected images or sound")
        codec = load(model)
        if file.header.kind == "image":
            grid, rate = tuple(-(-n // codec.stride) for n in file.header.shape[::-1]), 0
        else:
            layout = recording.layout_of(codec, file)
            grid, rate = (layout.grid,), layout.form.sample_rate
            if layout.signals > 1:
                raise ValueError(
                    f"{item}: {layout.form.channels} channels, coded as {layout.signals} signals; expected one"
                )
        forms[item] = Form(model, grid, 0 if codec.sample_rate else rate)
    return forms, damaged


def _one_model(forms: dict[Item, Form]) -> tuple[Codec, int]:
    by_model: dict[str, list[Item]] = {}
    for item, form in forms.items():
        by_model.setdefault(form.model, []).append(item)
    if len(by_model) > 1:
        found = ", ".join(f"{name} ({len(own)} files such as {own[0]})" for name, own in by_model.items())
        raise ValueError(f"expected files of one model; found {found}")
    if not by_model:
        raise ValueError("found no intact files")
    by_rate = {form.sample_rate: item for item, form in forms.items()}
    if len(by_rate) > 1:
        found = ", ".join(f"{rate} Hz (such as {item})" for rate, item in sorted(by_rate.items()))
        raise ValueError(f"expected files of one sample rate; found {found}")
    return load(next(iter(by_model))), next(iter(by_rate))
