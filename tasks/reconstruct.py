"""Reconstruct: train a codec on rate and distortion.

    loss = bpp + lmbda * 255**2 * mse + the bottleneck's own        (mse of signals in [0, 1]; bpp: bits per position)

Of sound, a position is a sample of all channels, and the error may be taken relative to the power of the signal: what
the mean of signal-to-noise ratios in dB asks for.

A codec with many rates is trained on all of them at once: every signal of a batch draws its quality. The price of
distortion grows as the square of the step shrinks, and losses are weighted so that every rate counts the same.

The codec starts from the statistics of the first crops (`Codec.start`). The last part of the run freezes
encoder and bottleneck and fits the decoder alone to the latents that files will hold.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from codomain.codecs.codec import Codec, CodecOutput
from codomain.codecs.context_bottleneck import QUALITIES_PER_OCTAVE
from codomain.codecs.density import draw_quality, rate_weight
from codomain.codecs.load import load_weights
from jaxtyping import Float
from torch import Tensor


class Reconstruct(L.LightningModule):
    """Rate-distortion training of any codec.

    Args:
        codec: what is trained.
        lmbda: price of distortion (at quality 50); larger means larger files and better pictures. 0 trains without a
            rate term, on the mean square error and the bottleneck's own loss: of codebooks, which have one rate, and
            as the WaLLoC paper does.
        start_bpp: rate at which training starts, bits per pixel.
        lr: peak learning rate of the decoder; cosine decay to 1 % of it at the end.
        encoder_lr: the same for analysis and quantizer steps, which start near their optimum.
        density_lr: the same for the density.
        warmup: steps of linear warm-up.
        decoder_only_after: share of the run after which only the decoder is trained.
        weights: exported weights to start from, in place of principal components: fine-tuning.
        power: mean square that the error of every signal is scaled to, before it is priced; by default it is not.
    """

    def __init__(
        self,
        codec: Codec,
        lmbda: float = 0.01,
        start_bpp: float | None = 0.6,
        lr: float = 2e-3,
        encoder_lr: float = 2e-4,
        density_lr: float = 2e-3,
        warmup: int = 200,
        decoder_only_after: float = 0.85,
        weights: Path | None = None,
        power: float | None = None,
    ) -> None:
        super().__init__()
        self.codec, self.lmbda, self.start_bpp = codec, lmbda, start_bpp
        self.rates = {"decoder": lr, "encoder": encoder_lr, "density": density_lr}
        self.warmup, self.decoder_only_after, self.weights, self.power = warmup, decoder_only_after, weights, power
        self.codec.bottleneck.prepare_training()

    def forward(self, x: Float[Tensor, "b c *space"], quality: Float[Tensor, " b"] | None = None) -> CodecOutput:
        """Code differentiably."""
        output: CodecOutput = self.codec(x, quality)
        return output

    def on_fit_start(self) -> None:
        """Start from the data, unless a checkpoint is resumed."""
        if self.trainer.ckpt_path is not None:
            return
        loader = iter(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        x = torch.cat([next(loader) for _ in range(24)]).to(self.device)
        if self.power is not None:
            x = x * self._gain(x).sqrt().reshape(-1, *[1] * (x.dim() - 1))
        if self.weights is not None:
            load_weights(self.codec, self.weights.read_bytes())
            self.codec.train().requires_grad_(True)
            with torch.no_grad():
                self.codec.bottleneck.start(self.codec.analysis(x))
        elif self.start_bpp is not None:
            self.codec.start(x, self.start_bpp)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """One batch of signals in [-1, 1]."""
        total = max(1, int(self.trainer.estimated_stepping_batches))
        decoder_only = self.global_step >= self.decoder_only_after * total
        for name, parameter in self.codec.named_parameters():
            if not name.startswith("decoder") and not name.endswith("quantiles"):
                parameter.requires_grad_(not decoder_only)
        quality = draw_quality(len(batch)).to(batch) if self.codec.bottleneck.has_rates else None
        output, mse, bpp = self._measure(batch, quality)
        priced = mse if self.power is None else mse * self._gain(batch)
        loss = self._cost(bpp, priced, quality).mean() + output.loss
        self.log_dict({"train/loss": loss, "train/bpp": bpp.mean(), "train/psnr": _psnr(mse).mean()}, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in self.codec.bottleneck.statistics().items()})
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Rounded latents; the rate is the density's, bits per pixel; of a codec with many rates, the middle one's."""
        quality = batch.new_full((len(batch),), 50.0) if self.codec.bottleneck.has_rates else None
        output, _, bpp = self._measure(batch, quality)
        mse = (output.x_hat.clamp(-1, 1) - batch).square().flatten(1).mean(1)
        self.log_dict({"val/bpp": bpp.mean(), "val/psnr": _psnr(mse).mean()}, prog_bar=True, batch_size=len(batch))
        if batch_idx == 0:
            self._write_samples(batch, output.x_hat)

    def configure_optimizers(self) -> Any:
        """Adam with one rate for the decoder, one for encoder and steps, one for the density."""
        groups: dict[str, list[Tensor]] = {name: [] for name in self.rates}
        for name, parameter in self.codec.named_parameters():
            key = "decoder" if name.startswith("decoder") else "density" if ".density." in name else "encoder"
            groups[key].append(parameter)
        optimizer = torch.optim.Adam(
            [{"params": p, "lr": self.rates[key]} for key, p in groups.items() if p], betas=(0.9, 0.99)
        )
        total, warmup = max(1, int(self.trainer.estimated_stepping_batches)), self.warmup

        def factor(step: int) -> float:
            cosine = 0.505 + 0.495 * math.cos(math.pi * min(1, step / total))
            return min(1.0, (step + 1) / (warmup + 1)) * cosine

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _measure(self, x: Tensor, quality: Tensor | None) -> tuple[CodecOutput, Tensor, Tensor]:
        """Mean square error and bits per position, of each signal."""
        output: CodecOutput = self.codec(x, quality)
        return output, (output.x_hat - x).square().flatten(1).mean(1), output.bits / (x[0].numel() / x.shape[1])

    def _gain(self, x: Tensor) -> Tensor:
        """What brings the power of every signal to `power`; of silence, no more than 40 dB."""
        assert self.power is not None
        return self.power / (x.square().flatten(1).mean(1) + 1e-4 * self.power)

    def _cost(self, bpp: Tensor, mse: Tensor, quality: Tensor | None) -> Tensor:
        """Rate and priced distortion of each signal."""
        if not self.lmbda:
            return mse
        distortion = self.lmbda * 255**2 / 4 * mse
        if quality is None:
            return bpp + distortion
        return (bpp + distortion * 4 ** ((quality - 50) / QUALITIES_PER_OCTAVE)) * rate_weight(quality)

    def _write_samples(self, x: Tensor, x_hat: Tensor) -> None:
        """Originals above reconstructions, one PNG for each validation."""
        if self.trainer.sanity_checking or self.trainer.log_dir is None or x.dim() != 4 or x.shape[1] != 3:
            return
        from torchvision.utils import save_image

        folder = Path(self.trainer.log_dir) / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        rows = (torch.cat((x[:8], x_hat[:8].clamp(-1, 1))) + 1) / 2
        save_image(rows, folder / f"step_{self.global_step:06d}.png", nrow=min(8, len(x)))


def _psnr(mse: Tensor) -> Tensor:
    """Decibels for signals in [-1, 1]."""
    return 10 * torch.log10(4 / mse)
