"""Code use: which codes of a codebook were chosen of late, and how evenly."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

WINDOW = 500  # steps that the counts remember, about
DECAY = 1 - 1 / WINDOW


class CodeUse(nn.Module):
    """Decaying counts of the codes that training chose; they are not part of the weights.

    Args:
        shape: of the codebooks: their sizes along the last axis.
    """

    counts: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(*shape), persistent=False)

    @torch.no_grad()
    def add(self, counts: Shaped[Tensor, "*shape"]) -> None:
        """Count one step."""
        self.counts.mul_(DECAY).add_(counts)

    def perplexity(self) -> Float[Tensor, "*books"]:
        """Return two to the entropy of the use of each codebook: as many codes used evenly would have it."""
        p = self.counts / self.counts.sum(-1, keepdim=True).clamp_min(1e-9)
        entropy: Tensor = torch.special.entr(p).sum(-1)
        return entropy.exp()

    def share(self) -> Float[Tensor, "*books"]:
        """Return the share of each codebook's codes that were chosen within `WINDOW` steps or so."""
        share: Tensor = (self.counts > DECAY**WINDOW - 1e-3).float().mean(-1)
        return share
