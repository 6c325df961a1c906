"""Colorize: find the colours of a grey picture, from the latents that its file holds, or from its pixels.

    x --normalised per channel--> Isotropic --LayerNorm, linear--> patches of y --codec's decoder--> picture

In latents, what is found is added to what the grey file holds, and decoded as any file. The pixel baseline is the same
task and the same network: `configs/tasks/colorize_pixels.yaml` has as many tokens.

The error is taken of y as it is, not of every channel in proportion to its deviation: latents of packets are nearly
orthonormal, so theirs is the error of the picture, and channels that hardly carry colour do not drown the others. Its
logarithm is what decibels are of: else photographs of few colours get some that they do not have.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from codomain.codecs.metrics import psnr
from codomain.tasks.greyed import Pair
from codomain.tasks.learner import Learner
from jaxtyping import Float
from torch import Tensor, nn

FLOOR = 0.01  # of the error over the variance of y: below, a picture is as good as found
PSNR_OF_EQUALS = 60.0  # a photograph without colours must not make the mean infinite


class Colorize(Learner):
    """Training of a colouring network; the data says of how many channels.

    Its settings are those of `Learner`.
    """

    x_mean: Tensor
    x_deviation: Tensor
    y_mean: Tensor
    y_deviation: Tensor

    def build(self, about: dict[str, Any]) -> None:
        """Make the network, about the channels of x and of y; at first it finds the mean."""
        self.about = about
        x_channels, y_channels = about["x_channels"], about["y_channels"]
        self.network = self.isotropic(x_channels)
        self.norm = nn.LayerNorm(self.network.width)
        self.leave = nn.Linear(self.network.width, y_channels * self.network.patch**2)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        for name, channels in (("x", x_channels), ("y", y_channels)):
            self.register_buffer(f"{name}_mean", torch.zeros(channels, 1, 1))
            self.register_buffer(f"{name}_deviation", torch.ones(channels, 1, 1))

    def setup(self, stage: str) -> None:
        """Make the network for the data of this run, and count means and deviations."""
        if not self.about:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            self.build({"x_channels": data.x_channels, "y_channels": data.y_channels, "data": data.describe()})
            for name, value in data.statistics()._asdict().items():
                setattr(self, name, value[:, None, None])

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b e h w"]:
        """Return what is found: of every position of the input, as many channels as y has."""
        tokens = self.network((x - self.x_mean) / self.x_deviation)
        patches = self.leave(self.norm(tokens.movedim(1, -1))).movedim(-1, 1)
        y = F.pixel_shuffle(patches, self.network.patch)[:, :, : x.shape[2], : x.shape[3]]
        found: Tensor = self.y_mean + self.y_deviation * y
        return found

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        """Logarithm of the mean square error of every picture, over the variance of y."""
        loss = self._loss(self(batch.x), batch.y)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.x))
        return loss

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        """PSNR of 8-bit pictures, the mean of dB: of those found, and of what is known alone, the decoded grey file."""
        y, data = self(batch.x), self.trainer.datamodule  # type: ignore[attr-defined]
        found = mean_psnr(data.to_photos(batch.x, y), batch.photos)
        known = mean_psnr(data.to_photos(batch.x, torch.zeros_like(y)), batch.photos)
        scores = {"val/psnr": found, "val/psnr_grey": known, "val/gain": found - known}
        self.log_dict(
            {"val/loss": self._loss(y, batch.y), **scores}, prog_bar=True, batch_size=len(batch.x), sync_dist=True
        )

    def _loss(self, found: Tensor, y: Tensor) -> Tensor:
        errors = (found - y).square().flatten(1).mean(1) / self.y_deviation.square().mean()
        return (errors + FLOOR).log().mean()


def mean_psnr(x_hat: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Return the mean of the decibels of pictures in [-1, 1], as 8-bit samples; of equal ones `PSNR_OF_EQUALS`."""
    samples = [((picture + 1) * 127.5).round().cpu().numpy() for picture in (x_hat, x)]
    decibels = [min(PSNR_OF_EQUALS, psnr(b, a, 255.0)) for a, b in zip(*samples, strict=True)]
    return torch.tensor(sum(decibels) / len(decibels), dtype=torch.float32)
