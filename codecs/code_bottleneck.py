"""CodeBottleneck: what quantizers with codebooks share: their indices go through one integer model of codes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from codomain.codecs import code_model
from codomain.codecs.bottleneck import Bottleneck
from codomain.codecs.code_model import CodeModel
from codomain.codecs.coder import Tables
from codomain.kernels.vq import nearest_code, segment_sums
from jaxtyping import Float, Int32
from torch import Tensor

KMEANS_STEPS = 12


class CodeBottleneck(Bottleneck):
    """A quantizer whose symbols are indices of codes; subclasses quantize.

    The positions of a plane are coded row by row, those of sound in time.

    Args:
        channels: of the latents.
        groups: codebooks of a layer.
        layers: residual stages.
        codebook_size: codes of each codebook.
        n_classes: clusters of codes for the entropy coder, at most 256.
    """

    classes: Tensor
    freqs: Tensor

    def __init__(self, channels: int, groups: int, layers: int, codebook_size: int, n_classes: int) -> None:
        super().__init__()
        if not 1 <= n_classes <= 256:
            raise ValueError(f"n_classes is 1 to 256; found {n_classes}")
        self.channels, self.groups, self.layers = channels, groups, layers
        self.codebook_size, self.n_classes = codebook_size, n_classes
        self.register_buffer("classes", torch.zeros(groups * layers, codebook_size, dtype=torch.uint8))
        self.register_buffer("freqs", torch.zeros(0, 0, dtype=torch.int16))

    @property
    def n_symbols(self) -> int:
        """Codes at each position: layer by layer, in each group by group."""
        return self.groups * self.layers

    def code_vectors(self) -> Float[Tensor, "n k d"]:
        """Return what the codes of each codebook stand for: those near each other are a class."""
        raise NotImplementedError

    def encode(self, symbols: Int32[np.ndarray, " s *grid"], index: int = 0) -> list[bytes]:
        """Return the payload of every layer of a region."""
        codes = symbols.reshape(len(symbols), -1)
        return [self.model().encode(codes, layer) for layer in range(self.layers)]

    def decode(self, payloads: Sequence[bytes], grid: Sequence[int], index: int = 0) -> Int32[np.ndarray, " s *grid"]:
        """Return the codes of the layers whose payloads are given.

        Raises:
            BitstreamError: if the bytes are not such payloads.
        """
        codes = np.zeros((len(payloads) * self.groups, prod(grid)), np.int32)
        for layer, data in enumerate(payloads):
            self.model().decode(data, codes, layer)
        return codes.reshape(-1, *grid)

    @torch.no_grad()
    def freeze_tables(self, y: Sequence[Float[Tensor, " d *_"]] = ()) -> None:
        """Cluster the codes, and count those of samples.

        Raises:
            ValueError: without samples.
        """
        if not y:
            raise ValueError("the tables of codes are counted: expected latents of samples")
        for n, book in enumerate(self.code_vectors()):
            centres, _ = kmeans(book, min(self.n_classes, self.codebook_size))
            _, self.classes[n] = nearest_code(book, centres).unique(return_inverse=True)
        codes = [self.to_symbols(part[None])[0].flatten(1).cpu().numpy() for part in y]
        model = code_model.count(codes, self.classes.cpu().numpy(), self.groups)
        self.freqs = torch.from_numpy(model.tables.freqs.astype(np.int16))
        self._integers = None

    def model(self) -> CodeModel:
        """Return the integer model that the weights carry.

        Raises:
            ValueError: if they carry none.
        """
        if self._integers is None:
            if len(self.freqs) == 0:
                raise ValueError("this bottleneck has no tables yet: train it, or load trained weights")
            freqs = self.freqs.cpu().numpy().astype(np.int32)
            tables = Tables(freqs, np.zeros(len(freqs), np.int32), code_model.PRECISION)
            self._integers = CodeModel(self.classes.cpu().numpy(), tables, self.groups)
        model: CodeModel = self._integers
        return model

    def tables(self) -> Tables:
        """Return the tables of all codebooks."""
        return self.model().tables

    def _encode_on_gpu(self, symbols: Sequence[Tensor], index: int) -> list[list[bytes]]:
        return self.encode_chunks([part.cpu() for part in symbols], index)

    def _decode_on_gpu(
        self, payloads: Sequence[Sequence[bytes]], grids: Sequence[Sequence[int]], index: int, device: torch.device
    ) -> list[Tensor]:
        parts = zip(payloads, grids, strict=True)
        return [torch.from_numpy(self.decode(layers, grid, index)).to(device) for layers, grid in parts]


def kmeans(
    x: Float[Tensor, "n d"], k: int, steps: int = KMEANS_STEPS
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Return centres and how many vectors each has, by Lloyd's algorithm, the same on every run.

    Vectors are drawn again where there are fewer than centres, or a centre is left alone.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator).to(x.device)
    book = x[order.repeat(-(-k // len(x)))[:k]].clone()
    if len(x) < k:
        book += 1e-3 * x.std() * torch.randn(book.shape, generator=generator).to(x)
    sizes = x.new_full((k,), len(x) / k)
    for _ in range(steps):
        sums, found = segment_sums(x, nearest_code(x, book), k)
        sizes = found.to(x.dtype)
        again = x[torch.randint(len(x), (k,), generator=generator).to(x.device)]
        book = torch.where((sizes > 0)[:, None], sums.to(x.dtype) / sizes.clamp_min(1)[:, None], again)
    return book, sizes
