"""Greyed: photographs without their colours, and the colours: pairs that a task learns from.

                pixels                          latents, as files hold them
    x           luma                            of the grey picture, in three equal channels
    y           red and blue, less luma         of the colour picture, less x

Luma is that of ITU-R BT.601, rounded to 8 bits: what Pillow makes of a picture, and an encoder is given of a grey file.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from codomain.codecs.bitstream import Flag
from codomain.codecs.codec import Codec
from codomain.codecs.load import load
from codomain.tasks.labelled import Stored
from codomain.tasks.learner import about_codec
from codomain.tasks.photographs import Photographs
from codomain.tasks.pixels import to_jpeg
from jaxtyping import Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
STATISTICS = 128  # crops that means and deviations are counted on


class Pair(NamedTuple):
    """A batch: what is known, what is to be found, and the photographs."""

    x: Float[Tensor, "b d *grid"]
    y: Float[Tensor, "b e *grid"]
    photos: Float[Tensor, "b 3 h w"]


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel of x and of y."""

    x_mean: Float[Tensor, " d"]
    x_deviation: Float[Tensor, " d"]
    y_mean: Float[Tensor, " e"]
    y_deviation: Float[Tensor, " e"]


class Greyed(Photographs):
    """Batches of `Pair`, of crops of photographs.

    Args:
        root: a folder; subfolders are searched.
        model: of images, whose latents the batches hold; None: pixels.
        quality: as of `Codec.encode`.
        crop, val_crop, batch_size, workers, memory_mb, val_share, seed: as of `Photographs`.
    """

    def __init__(
        self,
        root: str | Path,
        model: str | None = None,
        quality: float | None = None,
        crop: int = 192,
        val_crop: int = 256,
        batch_size: int = 8,
        workers: int = 0,
        memory_mb: int = 1500,
        val_share: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(root, crop, val_crop, batch_size, workers, memory_mb, val_share, seed)
        self.codec, self.quality = None if model is None else load(model), quality
        self.x_channels, self.y_channels = (1, 2) if self.codec is None else (self.codec.latent_dim,) * 2

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Pair:
        """Make the pairs, on the device."""
        return self.pair(batch)

    @torch.no_grad()
    def pair(self, photos: Float[Tensor, "b 3 h w"]) -> Pair:
        """Return what is known and what is to be found of photographs in [-1, 1]."""
        x = to_known(photos, self.codec, self.quality)
        if self.codec is None:
            return Pair(x, photos[:, ::2] - x, photos)
        return Pair(x, self.codec.encode(photos, self.quality) - x, photos)

    def to_photos(self, x: Float[Tensor, "b d *grid"], y: Float[Tensor, "b e *grid"]) -> Float[Tensor, "b 3 h w"]:
        """Return the pictures of what is known with what was found, in [-1, 1]."""
        return to_photos(x, y, self.codec, self.quality)

    def describe(self) -> dict[str, Any]:
        """Return the codec's name, digest and quality, or nothing of pixels."""
        return {} if self.codec is None else about_codec(self.codec) | {"quality": self.quality}

    def stored(self, jpeg: int) -> Stored:
        """Return what a grey picture of validation is in a file: a `.cdm` file, or JPEG."""
        sizes, grid = [], (self.val_crop, self.val_crop)
        for photos in self.val_dataloader():
            for grey in ((to_grey(photos) + 1) * 127.5).round().to(torch.uint8):
                if self.codec is None:
                    sizes.append(len(to_jpeg(grey, jpeg)))
                else:
                    x, flags = grey.expand(3, -1, -1)[None], Flag.GREY
                    sizes.append(len(self.codec.compress(x, quality=self.quality, flags=flags)))
        if self.codec is not None:
            grid = (-(-self.val_crop // self.codec.stride),) * 2
        return Stored(sum(sizes) / len(sizes), (self.x_channels, *grid))

    def statistics(self) -> Statistics:
        """Return means and deviations of the first `STATISTICS` training crops."""
        batches = [self.pair(x) for x in islice(self.train_dataloader(), max(1, STATISTICS // self.batch_size))]
        found = []
        for parts in ([pair.x for pair in batches], [pair.y for pair in batches]):
            rows = torch.cat(parts).movedim(1, 0).flatten(1)
            found += [rows.mean(1), rows.std(1).clamp_min(1e-6)]
        return Statistics(*found)


def to_grey(photos: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return the luma of pictures in [-1, 1], rounded to 8 bits."""
    luma = torch.einsum("bchw,c->bhw", photos, photos.new_tensor(LUMA))[:, None]
    return ((luma + 1) * 127.5).round() / 127.5 - 1


@torch.no_grad()
def to_known(
    photos: Float[Tensor, "b 3 h w"], codec: Codec | None = None, quality: float | None = None
) -> Float[Tensor, "b d *grid"]:
    """Return what is known of pictures in [-1, 1]: luma, or the latents of the grey pictures."""
    grey = to_grey(photos)
    if codec is None:
        return grey
    return codec.to(photos.device).encode(grey.expand(-1, 3, -1, -1), quality).clone()


@torch.no_grad()
def to_photos(
    x: Float[Tensor, "b d *grid"], y: Float[Tensor, "b e *grid"], codec: Codec | None = None,
    quality: float | None = None,
) -> Float[Tensor, "b 3 h w"]:  # fmt: skip
    """Return the pictures of what is known with what was found, in [-1, 1]."""
    if codec is not None:
        return codec.decode(x + y, quality=quality)
    red, blue = (x[:, 0] + y[:, i] for i in (0, 1))
    green = (x[:, 0] - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
    return torch.stack([red, green, blue], 1).clamp(-1, 1)
