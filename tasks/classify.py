"""Classify: what a signal is of, from the latents that its file holds. Images and sound.

    y --normalised per channel--> Isotropic --mean--> LayerNorm --linear--> a score for each class

The pixel baselines are the same task and the same network on `tasks/pixels.py`: `configs/tasks/classify_pixels.yaml`
has as many tokens as the latents, `classify_pixels_small.yaml` as many values as 16x latents.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from codomain.tasks.labelled import Batch
from codomain.tasks.learner import Learner
from jaxtyping import Float
from torch import Tensor, nn

TOP = 3  # classes that are told


class Classify(Learner):
    """Training of a classifier; the data says of how many channels, axes and classes.

    Args:
        smoothing: of labels.
        mixup: parameter of the Beta distribution that the weights of mixed pairs are drawn from; 0 mixes none.
        settings: as of `Learner`.
    """

    def __init__(self, smoothing: float = 0.1, mixup: float = 0.2, **settings: Any) -> None:
        super().__init__(**settings)
        self.smoothing, self.mixup = smoothing, mixup
        self.began = self.epoch_s = 0.0

    def build(self, about: dict[str, Any]) -> None:
        """Make the network, about channels, ndim and classes."""
        self.about = about
        self.network = self.isotropic(about["channels"], about["ndim"])
        width = self.network.width
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(about["classes"])))
        self.register_buffer("mean", torch.zeros(about["channels"]))
        self.register_buffer("deviation", torch.ones(about["channels"]))

    def setup(self, stage: str) -> None:
        """Make the network for the data of this run, and count its mean and deviation."""
        if not self.about:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            self.build({"channels": data.channels, "ndim": data.ndim, "classes": data.classes, "data": data.describe()})
            self.mean, self.deviation = data.statistics()

    def forward(self, x: Float[Tensor, "b d *grid"]) -> Float[Tensor, "b k"]:
        """Return the score of each class."""
        ones = [1] * (x.dim() - 2)
        x = (x - self.mean.reshape(-1, *ones)) / self.deviation.reshape(-1, *ones)
        scores: Tensor = self.head(self.network(x).flatten(2).mean(2))
        return scores

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross entropy, of pairs of signals mixed."""
        x, label = batch
        if self.mixup:
            weight = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
            order = torch.randperm(len(x), device=x.device)
            scores = self(weight * x + (1 - weight) * x[order])
            loss = weight * self._loss(scores, label) + (1 - weight) * self._loss(scores, label[order])
        else:
            loss = self._loss(self(x), label)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(x))
        return loss

    def on_train_epoch_start(self) -> None:
        """Look at the clock."""
        self.began = time.perf_counter()

    def on_validation_start(self) -> None:
        """Seconds of an epoch's training are up to here."""
        self.epoch_s = time.perf_counter() - self.began

    def on_train_epoch_end(self) -> None:
        """Tell the seconds of training, without validation."""
        self.log("train/epoch_s", self.epoch_s)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Share of signals whose best score is that of their class."""
        scores = self(batch.x)
        right = (scores.argmax(1) == batch.label).float().mean()
        found = {"val/loss": F.cross_entropy(scores, batch.label), "val/accuracy": right}
        self.log_dict(found, prog_bar=True, batch_size=len(batch.x), sync_dist=True)

    def answer(self, x: Float[Tensor, "1 d *grid"]) -> dict[str, Any]:
        """Return label and probability of a signal, and its likeliest classes."""
        chances = self(x)[0].softmax(0)
        best = chances.argsort(descending=True)[:TOP].tolist()
        top = {self.about["classes"][i]: round(float(chances[i]), 4) for i in best}
        label = next(iter(top))
        return {"label": label, "probability": top[label], "top": top}

    def _loss(self, scores: Float[Tensor, "b k"], label: Tensor) -> Tensor:
        return F.cross_entropy(scores, label, label_smoothing=self.smoothing)
