"""Peers: the operations of other libraries that `bench` measures beside ours."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import find_spec

import torch
from PIL import Image
from torch import Tensor


def is_installed(package: str) -> bool:
    """Return whether a package is there; name it where it is not."""
    found = find_spec(package) is not None
    if not found:
        print(f"{package} is not installed: left out")
    return found


def pytorch_wavelets() -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return the packet cascade and its inverse as the walloc package writes them."""
    from pytorch_wavelets import DWTForward, DWTInverse

    analysis, synthesis = DWTForward(J=1, mode="periodization", wave="bior4.4"), DWTInverse("bior4.4", "periodization")

    def forward(x: Tensor) -> Tensor:
        for _ in range(3):
            low, high = analysis(x)
            x = torch.cat((low[:, :, None], high[0]), 2).flatten(1, 2)
        return x

    def inverse(X: Tensor) -> Tensor:
        for _ in range(3):
            X = X.unflatten(1, (-1, 4))
            X = synthesis((X[:, :, 0], [X[:, :, 1:]]))
        return X

    return forward, inverse


def walloc(x: Tensor) -> tuple[Callable[[], bytes], Callable[[], Tensor]]:
    """Return compress (wavelet, convolution, lossless WebP) and decompress of the walloc package."""
    from walloc import walloc

    codec = walloc.Codec2D(
        channels=3, J=3, Ne=768, Nd=768, latent_dim=12, latent_bits=8, lightweight_encode=True
    ).eval()
    codec.encoder[0].weight.mul_(20)  # random weights give flat latents; these are as busy as trained ones

    def compress() -> bytes:
        y = codec.encoder(codec.wavelet_analysis(x.float() / 255 - 0.5, J=3))
        out = io.BytesIO()
        walloc.latent_to_pil(y, 8, 3)[0].save(out, "WEBP", lossless=True)
        return out.getvalue()

    data = compress()

    def decompress() -> Tensor:
        y = walloc.pil_to_latent([Image.open(io.BytesIO(data))], 12, 8, 3)
        x_hat: Tensor = codec.wavelet_synthesis(codec.decoder(y), J=3)
        return x_hat

    return compress, decompress


def vector_quantize_pytorch(x: Tensor, books: Tensor) -> Callable[[], Tensor]:
    """Return its lookup of codes, in evaluation."""
    from vector_quantize_pytorch import ResidualVQ, VectorQuantize

    k, d = books.shape[-2:]
    if books.dim() == 2:
        net, layers = (one := VectorQuantize(dim=d, codebook_size=k).to(x.device)), [one]
    else:
        net = ResidualVQ(dim=d, codebook_size=k, num_quantizers=len(books)).to(x.device)
        layers = list(net.layers)
    for layer, book in zip(layers, books.reshape(-1, k, d), strict=True):
        layer._codebook.embed.copy_(book[None])
    net.eval()

    def run() -> Tensor:
        codes: Tensor = net(x[None])[1][0]
        return codes

    return run
