"""Separate: find the stems of a mixture, from the latents that its file holds, or from its waveform.

    x --normalised, signed and absolute--> Isotropic --LayerNorm, linear--> scores --softmax over stems--> masks
    masks * x --codec's decoder--> the sound of every stem

Every latent is shared out among the stems. The masks start at the share that each stem has of the energy of a channel
in training: the best constant mask of stems that do not correlate (Wiener's). Latents of packets are nearly
orthonormal, so their errors are those of the waveform.

The baseline is the same task and the same network, but for its first and last layers, on the coefficients of an
orthonormal transform of the waveform: `configs/tasks/separate_waveform.yaml` has as many tokens.

Measured is the waveform. The reference of a stem is the sound that it was encoded from. Its SI-SDR is set beside that
of the mixture, of latents the decoded one, against the same reference. Left out are stems where they are silent, or
nearly: with less than `AUDIBLE` of the energy of all stems in an excerpt.

Source: of the loss, Wisdom et al., "What's all the fuss about free universal sound separation data?", 2021, equation 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from codomain.codecs.sound_metrics import si_sdr
from codomain.tasks.learner import Learner
from codomain.tasks.stems import Mixed
from jaxtyping import Float
from torch import Tensor, nn

SPREAD = 3.0  # deviations over the magnitude from which the network sees logarithms
FLOOR = 1e-3  # of the mixture's energy: an error of 30 dB less is as good as none
AUDIBLE = 1e-3
LIMIT = 40.0  # dB: a stem alone, or silence that was found, must not make a mean infinite


class Separate(Learner):
    """Training of a separating network; the data says of how many channels and stems.

    Its settings are those of `Learner`.
    """

    deviation: Tensor
    log_share: Tensor
    scores: Tensor

    def build(self, about: dict[str, Any]) -> None:
        """Make the network, about channels and stems; at first it masks by the shares, which are equal.

        Raises:
            ValueError: for a name of a stem that is none of a file.
        """
        for name in about["stems"]:
            if Path(name).name != name:
                raise ValueError(f"a stem named {name!r}; expected a file name")
        self.about = about
        channels, stems = about["channels"], len(about["stems"])
        self.network = self.isotropic(2 * channels, ndim=1)
        self.norm = nn.LayerNorm(self.network.width)
        self.leave = nn.Linear(self.network.width, self.network.patch * stems * channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("deviation", torch.ones(channels, 1))
        self.register_buffer("log_share", torch.zeros(stems, channels, 1))

    def setup(self, stage: str) -> None:
        """Make the network for the data of this run, and count deviations and shares."""
        if not self.about:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            self.build({"channels": data.channels, "stems": data.stems, "data": data.describe()})
            self.deviation, self.log_share = statistics(data)

    def forward(self, x: Float[Tensor, "b d n"]) -> Float[Tensor, "b k d n"]:
        """Return the stems that are found."""
        stems, channels, _ = self.log_share.shape
        z = torch.asinh(SPREAD * x / self.deviation)  # quiet ones count too
        tokens = self.norm(self.network(torch.cat([z, z.abs() - 1], 1)).transpose(1, 2))
        scores = self.leave(tokens).unflatten(2, (self.network.patch, stems, channels))  # b, tokens, patch, ...
        scores = scores.flatten(1, 2)[:, : x.shape[2]].permute(0, 2, 3, 1) + self.log_share
        found: Tensor = scores.softmax(1) * x[:, None]
        return found

    def training_step(self, batch: Mixed, batch_idx: int) -> Tensor:
        """Logarithm of the error of every stem over its energy."""
        loss = error(self(batch.x), batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.x))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the last time."""
        self.scores = torch.zeros(3, self.log_share.shape[0])

    def validation_step(self, batch: Mixed, batch_idx: int) -> None:
        """SI-SDR of the waveforms of the stems that are found, and of the mixture in their place."""
        assert batch.sounds is not None
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        found = self(batch.x)
        self.log("val/loss", error(found, batch), batch_size=len(batch.x), sync_dist=True)
        mixtures = data.to_sound(batch.x, batch.quality)
        for y, mixture, sounds, index in zip(found, mixtures, batch.sounds, batch.quality, strict=True):
            x_hat = data.to_sound(y, (index,) * len(y))
            energy = sounds.square().sum((1, 2))
            for i in torch.nonzero(energy > AUDIBLE * energy.sum()).flatten().tolist():
                self.scores[:, i] += torch.tensor([decibels(sounds[i], x_hat[i]), decibels(sounds[i], mixture), 1.0])

    def on_validation_epoch_end(self) -> None:
        """Log the means over excerpts of each stem, and over stems."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        sums = self.trainer.strategy.reduce(self.scores.to(self.device), reduce_op="sum")
        found, mixture, _ = sums / sums[2]
        means = {"": (found.nanmean(), mixture.nanmean())}
        means |= {f"_{name}": (a, b) for name, a, b in zip(data.stems, found, mixture, strict=True)}
        for name, (a, b) in means.items():
            scores = {f"val/si_sdr{name}": a, f"val/si_sdr_mixture{name}": b, f"val/gain{name}": a - b}
            self.log_dict({key: value.float() for key, value in scores.items()}, prog_bar=not name)


@torch.no_grad()
def statistics(data: Any) -> tuple[Float[Tensor, "d 1"], Float[Tensor, "k d 1"]]:
    """Return the deviation of each channel of mixtures, and the logarithm of the share of each stem in its energy."""
    energy, n = torch.zeros(1 + len(data.stems), data.channels, dtype=torch.float64), 0
    for batch in data.samples():
        signals = torch.cat([batch.x[:, None], batch.y], 1).double()
        energy += signals.square().sum((0, 3))
        n += signals.shape[0] * signals.shape[3]
    mean = energy / n
    stems = mean[1:] + 1e-4 * mean[1:].sum(0) + 1e-12  # no share is nothing
    return mean[0, :, None].sqrt().clamp_min(1e-6).float(), (stems / stems.sum(0)).log()[..., None].float()


def error(found: Float[Tensor, "b k d n"], batch: Mixed) -> Float[Tensor, ""]:
    """Return the mean logarithm of the energy of what is wrong with a stem over its own, above a floor for silence."""
    floor = FLOOR * batch.x.square().sum((1, 2))[:, None] + 1e-9
    wrong = (found - batch.y).square().sum((2, 3)) + floor
    return (wrong / (batch.y.square().sum((2, 3)) + floor)).log().mean()


def decibels(x: Float[Tensor, "c t"], x_hat: Float[Tensor, "c t"]) -> float:
    """Return the SI-SDR, within `LIMIT`."""
    return max(-LIMIT, min(LIMIT, si_sdr(x.cpu().numpy(), x_hat.cpu().numpy())))
