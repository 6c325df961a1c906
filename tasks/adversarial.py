"""Adversarial: train a codec of sound on spectra and, once these are near, against discriminators.

    loss = mel + stft + the bottleneck's own + adversarial + feature matching         (each with its weight)

In the order of a run: the networks alone, without quantization; then with the bottleneck, which starts from their
latents; then, where discriminators are given, against them; last the decoder alone, on the latents that files will
hold.

Source: Yang et al., "HiFi-Codec", 2023, section 3; losses of Kong, Kim and Bae, "HiFi-GAN", 2020.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from codomain.codecs.codec import Codec, CodecOutput
from codomain.codecs.discriminators import Discriminators
from codomain.codecs.load import load_weights
from codomain.codecs.losses import MelDistance, StftDistance, discriminator_loss, feature_loss, generator_loss
from jaxtyping import Float
from torch import Tensor

START_BATCHES = 24  # that the bottleneck starts from


class Adversarial(L.LightningModule):
    """Training of a codec of sound; two optimizers, stepped by hand.

    Args:
        codec: what is trained; the generator.
        mel: distance of mel spectra.
        stft: distance of spectra, if any.
        discriminators: what is trained against it, if anything.
        mel_weight, stft_weight, adversarial_weight, feature_weight: of the terms of the loss.
        lr: peak learning rate of the codec; cosine decay to 2 % of it at the end.
        discriminator_lr: the same for the discriminators.
        betas: of both Adams.
        clip: largest norm of the codec's gradient.
        warmup: steps of linear warm-up.
        quantize_after: step at which the bottleneck starts from latents; None: it is used as it is from the first.
        adversarial_after: share of the run after which the discriminators take part.
        decoder_only_after: share of the run after which only the decoder is trained.
        weights: exported weights to start from: fine-tuning.
    """

    def __init__(
        self,
        codec: Codec,
        mel: MelDistance,
        stft: StftDistance | None = None,
        discriminators: Discriminators | None = None,
        mel_weight: float = 1.0,
        stft_weight: float = 0.0,
        adversarial_weight: float = 1.0,
        feature_weight: float = 2.0,
        lr: float = 1e-3,
        discriminator_lr: float = 2e-4,
        betas: tuple[float, float] = (0.8, 0.99),
        clip: float = 1.0,
        warmup: int = 100,
        quantize_after: int | None = 300,
        adversarial_after: float = 0.0,
        decoder_only_after: float = 0.9,
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.codec, self.mel, self.stft, self.discriminators = codec, mel, stft, discriminators
        self.mel_weight, self.stft_weight = mel_weight, stft_weight
        self.adversarial_weight, self.feature_weight = adversarial_weight, feature_weight
        self.lr, self.discriminator_lr, self.betas, self.clip, self.warmup = lr, discriminator_lr, betas, clip, warmup
        self.quantize_after, self.adversarial_after = quantize_after, adversarial_after
        self.decoder_only_after, self.weights = decoder_only_after, weights
        self.codec.bottleneck.prepare_training()

    def forward(self, x: Float[Tensor, "b c t"]) -> CodecOutput:
        """Code differentiably; without quantization before it has started."""
        if self.quantize_after is not None and self.global_step < self.quantize_after:
            y = self.codec.analysis(x)
            nothing = y.new_zeros(())
            return CodecOutput(self.codec.synthesis(y), y, nothing.expand(len(x)), nothing)
        output: CodecOutput = self.codec(x)
        return output

    def on_fit_start(self) -> None:
        """Start from weights, unless a checkpoint is resumed."""
        if self.trainer.ckpt_path is None and self.weights is not None:
            load_weights(self.codec, self.weights.read_bytes())
            self.codec.train().requires_grad_(True)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """One batch of signals in [-1, 1]: first the discriminators, then the codec."""
        done = self.global_step / max(1, int(self.trainer.estimated_stepping_batches))
        if self.global_step == self.quantize_after:
            self._start_bottleneck()
        self._freeze(done >= self.decoder_only_after)
        against = self.discriminators if done >= self.adversarial_after else None
        output = self(batch)
        losses = self._spectral_losses(output, batch)
        generator, *others = self._optimizers()
        if against is not None:
            loss = discriminator_loss(against(batch), against(output.x_hat.detach()))
            (critic,) = others
            self._step(
                critic.optimizer, loss
            )  # of the plain optimizer: Lightning's would count it as a step of the run
            losses["train/discriminator"] = loss.detach()
            against.requires_grad_(False)
            real, fake = against(batch), against(output.x_hat)
            against.requires_grad_(True)
            losses["train/adversarial"] = generator_loss(fake)
            losses["train/feature"] = feature_loss(real, fake)
        weights = {
            "train/mel": self.mel_weight,
            "train/stft": self.stft_weight,
            "train/bottleneck": 1.0,
            "train/adversarial": self.adversarial_weight,
            "train/feature": self.feature_weight,
        }
        total = torch.stack([weight * losses[name] for name, weight in weights.items() if name in losses]).sum()
        self._step(generator, total)
        for schedule in self._schedules():
            schedule.step()
        self.log_dict({"train/loss": total.detach(), **{k: v.detach() for k, v in losses.items()}}, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in self.codec.bottleneck.statistics().items()})

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Distances of reconstructions from files' latents."""
        output = self(batch)
        losses = self._spectral_losses(output, batch)
        self.log_dict({k.replace("train", "val"): v for k, v in losses.items()}, prog_bar=True, batch_size=len(batch))
        if batch_idx == 0:
            self._write_sample(batch, output.x_hat)

    def configure_optimizers(self) -> Any:
        """AdamW for the codec, and another for the discriminators."""
        total, warmup = max(1, int(self.trainer.estimated_stepping_batches)), self.warmup

        def factor(step: int) -> float:
            cosine = 0.51 + 0.49 * math.cos(math.pi * min(1, step / total))
            return min(1.0, (step + 1) / (warmup + 1)) * cosine

        trained = [(self.codec, self.lr)]
        if self.discriminators is not None:
            trained.append((cast(Any, self.discriminators), self.discriminator_lr))
        optimizers = [torch.optim.AdamW(m.parameters(), lr=lr, betas=self.betas) for m, lr in trained]
        return optimizers, [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]

    @torch.no_grad()
    def _start_bottleneck(self) -> None:
        loader = iter(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        x = torch.cat([next(loader) for _ in range(START_BATCHES)]).to(self.device)
        self.codec.bottleneck.start(self.codec.analysis(x))

    def _freeze(self, decoder_only: bool) -> None:
        """Encoder and bottleneck stand still for the last part of the run; codebooks that follow averages, too."""
        for name, parameter in self.codec.named_parameters():
            if not name.startswith("decoder"):
                parameter.requires_grad_(not decoder_only)
        self.codec.bottleneck.train(not decoder_only)

    def _spectral_losses(self, output: CodecOutput, x: Tensor) -> dict[str, Tensor]:
        """The terms that need no discriminator, in full precision: spectra of quiet sounds are small."""
        with torch.autocast(x.device.type, enabled=False):
            x_hat = output.x_hat.float()
            losses = {"train/mel": self.mel(x_hat, x), "train/bottleneck": output.loss}
            if self.stft is not None:
                losses["train/stft"] = self.stft(x_hat, x)
        return losses

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], self.clip)
        optimizer.step()

    def _optimizers(self) -> list[Any]:
        found = self.optimizers()
        return list(found) if isinstance(found, list) else [found]

    def _schedules(self) -> list[Any]:
        found = self.lr_schedulers()
        return list(found) if isinstance(found, list) else [found]

    def _write_sample(self, x: Tensor, x_hat: Tensor) -> None:
        """A recording, then its reconstruction, one WAV for each validation."""
        if self.trainer.sanity_checking or self.trainer.log_dir is None:
            return
        import soundfile

        folder = Path(self.trainer.log_dir) / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        both = torch.cat((x[0], x_hat[0].clamp(-1, 1)), 1).float().cpu().numpy()
        rate = self.codec.sample_rate or 44100
        soundfile.write(folder / f"step_{self.global_step:06d}.wav", both.T, rate)
