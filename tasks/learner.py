"""Learner: what all tasks have in common, the shape of their network, how it is trained, and what checkpoints keep."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from codomain.codecs.codec import Codec
from codomain.tasks.isotropic import Isotropic
from torch import Tensor

RANK = 1_000_003  # from the seeds of a rank to those of the next


class Learner(L.LightningModule):
    """A task on the tokens of one network.

    Args:
        patch: positions of the input per token, along each axis.
        width, depth, kernel, expand, drop: as of `Isotropic`.
        lr: peak learning rate; cosine decay to 0 at the end.
        weight_decay: of AdamW, of matrices alone.
        warmup: share of the run with a rising learning rate.
    """

    def __init__(
        self,
        patch: int = 2,
        width: int = 96,
        depth: int = 6,
        kernel: int = 5,
        expand: int = 2,
        drop: float = 0.1,
        lr: float = 2e-3,
        weight_decay: float = 0.05,
        warmup: float = 0.05,
    ) -> None:
        super().__init__()
        self.shape: dict[str, Any] = {
            "patch": patch, "width": width, "depth": depth, "kernel": kernel, "expand": expand, "drop": drop
        }  # fmt: skip
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.about: dict[str, Any] = {}

    def build(self, about: dict[str, Any]) -> None:
        """Make the network.

        Args:
            about: what it is of, numbers and words: of the task, and as ``data`` what the data's `describe` says.
        """
        raise NotImplementedError

    @property
    def reach(self) -> int:
        """Positions before and behind a patch that what is found in it depends on, whole patches."""
        return int(self.shape["depth"] * (self.shape["kernel"] // 2) * self.shape["patch"])

    def isotropic(self, channels: int, ndim: int = 2) -> Isotropic:
        """Return the network, for inputs of so many channels and axes."""
        return Isotropic(channels, ndim=ndim, **self.shape)

    def answer(self, x: Tensor) -> dict[str, Any]:
        """Return what is found in one signal, of a task that finds words."""
        raise NotImplementedError

    def on_fit_start(self) -> None:
        """Let ranks differ in what they draw, as mirrors and gains: they begin with one seed, as their weights must."""
        if self.global_rank:
            torch.manual_seed(torch.initial_seed() + RANK * self.global_rank)

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then cosine to 0, step by step."""
        total = max(1, int(self.trainer.estimated_stepping_batches))

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / (self.warmup * total + 1))
            return rise * (0.5 + 0.5 * math.cos(math.pi * min(1, step / total)))

        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters() if p.dim() > 1]},
            {"params": [p for p in self.parameters() if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the network is of: words and numbers, so that it loads without pickles of classes."""
        checkpoint["task"] = {"name": type(self).__name__.lower(), "shape": self.shape, "about": self.about}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with other data than the checkpoint's."""
        theirs = checkpoint.get("task", {}).get("about", {})
        for key, expected in self.about.items():
            if theirs.get(key) != expected:
                raise ValueError(f"the checkpoint is of {key} {theirs.get(key)}; the data has {expected}")


def about_codec(codec: Codec) -> dict[str, Any]:
    """Return what a checkpoint keeps of the codec whose latents it learnt from: name and digest of its weights."""
    return {"codec": codec.name, "digest": codec.digest.hex()}
