"""Group-residual vector quantization: groups of channels, each quantized in residual stages.

    y --groups--> r_0 --nearest code--> c_0, r_1 = r_0 - c_0 --nearest code--> c_1 ...      y_hat = c_0 + c_1 + ...

A stage is a layer of the file, so the first stages of a file decode alone. With one group this is residual VQ, with one
stage and one group plain VQ.

Gradients: identity from `y_hat` to `y`, and the commitment term of every stage reaches the encoder in full. Codebooks
follow exponential moving averages of the vectors that choose them; one that is hardly chosen is replaced by a vector of
the batch, statistics included.

Source: Yang et al., "HiFi-Codec: Group-residual vector quantization for high fidelity audio codec", 2023; Zeghidour et
al., "SoundStream", 2021, section III-C.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from codomain.codecs.bottleneck import BottleneckOutput
from codomain.codecs.code_bottleneck import KMEANS_STEPS, CodeBottleneck, kmeans
from codomain.codecs.code_use import CodeUse
from codomain.kernels.vq import nearest_code, residual_codes, segment_sums
from jaxtyping import Bool, Float, Int32, Integer
from torch import Tensor


class GroupResidualVQ(CodeBottleneck):
    """Codebooks of vectors, looked up exactly by `kernels/vq.py`.

    Args:
        channels: latent channels ``d``; a multiple of ``groups``.
        groups: of channels, each with codebooks of its own.
        stages: residual stages.
        codebook_size: codes of each codebook.
        decay: of the moving averages.
        commitment: weight of the term that draws latents to their codes.
        reset_below: share of the even use below which a code is replaced.
        stage_dropout: share of training batches that use a random number of stages.
        n_classes: clusters of codes for the entropy coder, at most 256.
        kmeans_steps: of the start; 0 starts from vectors as they are drawn, None from normal codes.
    """

    codebooks: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        channels: int,
        groups: int = 1,
        stages: int = 1,
        codebook_size: int = 1024,
        decay: float = 0.99,
        commitment: float = 0.25,
        reset_below: float = 0.1,
        stage_dropout: float = 0.0,
        n_classes: int = 64,
        kmeans_steps: int | None = KMEANS_STEPS,
    ) -> None:
        super().__init__(channels, groups, stages, codebook_size, n_classes)
        if channels % groups:
            raise ValueError(f"channels must be a multiple of groups; found {channels} and {groups}")
        self.decay, self.commitment, self.reset_below = decay, commitment, reset_below
        self.stage_dropout, self.kmeans_steps = stage_dropout, kmeans_steps
        size = (groups, stages, codebook_size)
        self.register_buffer("codebooks", torch.randn(*size, channels // groups))
        self.register_buffer("counts", torch.ones(size), persistent=False)  # moving averages, 1 where use is even
        self.register_buffer("sums", self.codebooks.clone(), persistent=False)
        self.use = CodeUse(groups * stages, codebook_size)

    def forward(
        self,
        y: Float[Tensor, "b d *grid"],
        quality: Float[Tensor, " b"] | None = None,
        mask: Bool[Tensor, " b *grid"] | None = None,
    ) -> BottleneckOutput:
        """Return the quantized latents, the bits of codes of fixed length, and the commitment term.

        Args:
            y: latents.
            quality: none; the number of stages is the rate.
            mask: where signals are; what is padded is in no loss and no statistics.
        """
        rows = y.movedim(1, -1).flatten(0, -2)
        wanted = rows.detach() if mask is None else rows.detach()[mask.flatten()]
        stages = self.layers
        if self.training and self.stage_dropout and float(torch.rand(())) < self.stage_dropout:
            stages = int(torch.randint(1, self.layers + 1, ()))
        codes = residual_codes(rows, self.codebooks[:, :stages]).codes  # (n, g, s)
        chosen = self._chosen(codes)  # (s, n, d)
        weight = rows.new_ones(len(rows)) if mask is None else mask.flatten().to(rows.dtype)
        loss, so_far = y.new_zeros(()), torch.zeros_like(rows)
        for code in chosen:
            error = (rows - so_far - code).square().mean(1)  # so_far has no gradient: every stage draws the encoder
            loss = loss + (error * weight).sum() / weight.sum().clamp_min(1)
            so_far = so_far + code
        if self.training:
            self._follow(wanted, codes if mask is None else codes[mask.flatten()])
        y_hat = (rows + (so_far - rows).detach()).reshape(y.movedim(1, -1).shape).movedim(-1, 1)
        positions = y[0, 0].numel()
        bits = y.new_full((len(y),), float(positions * stages * self.groups * np.log2(self.codebook_size)))
        return BottleneckOutput(y_hat, bits, self.commitment * loss / max(1, stages))

    def to_symbols(self, y: Float[Tensor, "b d *grid"], index: int = 0) -> Int32[Tensor, "b s *grid"]:
        """Return the codes.

        Raises:
            ValueError: if a latent is NaN or infinite.
        """
        if not torch.isfinite(y).all():
            raise ValueError("latents must be finite; found NaN or infinity in the signal")
        rows = y.movedim(1, -1)
        codes = residual_codes(rows.flatten(0, -2), self.codebooks).codes.transpose(1, 2).flatten(1)  # stage by stage
        return codes.reshape(*rows.shape[:-1], -1).movedim(-1, 1).to(torch.int32).contiguous()

    def from_symbols(self, symbols: Integer[Tensor, "b s *grid"], index: int = 0) -> Float[Tensor, "b d *grid"]:
        """Return the sums of the codes, of the stages that there are."""
        rows = symbols.movedim(1, -1)
        codes = rows.flatten(0, -2).long().unflatten(1, (-1, self.groups)).transpose(1, 2)
        y_hat: Tensor = self._chosen(codes).sum(0).reshape(*rows.shape[:-1], -1).movedim(-1, 1)
        return y_hat

    @torch.no_grad()
    def start(self, y: Float[Tensor, "b d *grid"], bits: float | None = None) -> None:
        """k-means, stage by stage, each on what the stages before left over."""
        if self.kmeans_steps is None:
            return
        rows = self._gathered(y.movedim(1, -1).flatten(0, -2).contiguous())
        for group, part in enumerate(rows.chunk(self.groups, 1)):
            residual = part.contiguous()
            for stage in range(self.layers):
                book, sizes = kmeans(residual, self.codebook_size, self.kmeans_steps)
                self.codebooks[group, stage] = book
                self.counts[group, stage] = sizes * self.codebook_size / len(residual)
                self.sums[group, stage] = book * self.counts[group, stage][:, None]
                residual = residual - book[nearest_code(residual, book)]

    def code_vectors(self) -> Float[Tensor, "n k d"]:
        """Return the codes, stage by stage."""
        return self.codebooks.transpose(0, 1).flatten(0, 1)

    def statistics(self) -> dict[str, Tensor]:
        """Return perplexity and the share of codes that were used of late, of every codebook, stage by stage."""
        watched = {"perplexity": self.use.perplexity(), "used": self.use.share()}
        return {f"{name}_{i}": value for name, values in watched.items() for i, value in enumerate(values)}

    def _chosen(self, codes: Integer[Tensor, "n g s"]) -> Float[Tensor, "s n d"]:
        parts = [
            torch.cat([self.codebooks[g, s][codes[:, g, s]] for g in range(self.groups)], 1)
            for s in range(codes.shape[2])
        ]
        return torch.stack(parts)

    @torch.no_grad()
    def _follow(self, rows: Float[Tensor, "n d"], codes: Integer[Tensor, "n g s"]) -> None:
        """Move the codebooks towards the vectors that chose them; replace codes that hardly any did."""
        seen = torch.zeros_like(self.use.counts)
        for group, part in enumerate(rows.chunk(self.groups, 1)):
            residual = part.contiguous().float()
            for stage in range(codes.shape[2]):
                chosen = codes[:, group, stage]
                sums, sizes = segment_sums(residual, chosen, self.codebook_size)
                sizes = sizes.to(sums.dtype)
                drawn = torch.arange(self.codebook_size, device=rows.device) * 7919 % max(1, len(residual))
                spare = self._gathered(residual[drawn] if len(residual) else self.codebooks[group, stage])
                if _is_distributed():
                    dist.all_reduce(sums)
                    dist.all_reduce(sizes)
                even = sizes.sum().clamp_min(1) / self.codebook_size
                seen[stage * self.groups + group] = sizes
                counts, totals = self.counts[group, stage], self.sums[group, stage]
                counts.lerp_(sizes / even, 1 - self.decay)
                totals.lerp_(sums / even, 1 - self.decay)
                dead = counts < self.reset_below
                every = spare[:: len(spare) // self.codebook_size]
                totals.copy_(torch.where(dead[:, None], every, totals))
                counts.copy_(torch.where(dead, 1.0, counts))
                left = residual - self.codebooks[group, stage][chosen]
                alive = (counts > 1e-20)[:, None]  # a code that nobody chose for thousands of steps stays where it is
                self.codebooks[group, stage].copy_(
                    torch.where(alive, totals / counts[:, None], self.codebooks[group, stage])
                )
                residual = left
        self.use.add(seen)

    def _gathered(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
        """The vectors of all ranks, the same on each."""
        if not _is_distributed():
            return rows
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.sums = self.codebooks.clone()
        self.counts = torch.ones_like(self.counts)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
