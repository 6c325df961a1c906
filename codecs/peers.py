"""Peers: the operations of other libraries that `bench` measures beside ours."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def is_installed(package: str) -> bool:
    """Return whether a package is there; name it where it is not."""
    found = find_spec(package) is not None
    if not found:
        print(f"{package} is not installed: left out")
    return found


def pytorch_wavelets(device: str = "cpu") -> tuple[Map, Map]:
    """Return the packet cascade of three levels and its inverse as the walloc package writes them."""
    from pytorch_wavelets import DWTForward, DWTInverse

    analysis = DWTForward(J=1, mode="periodization", wave="bior4.4").to(device)
    synthesis = DWTInverse("bior4.4", "periodization").to(device)

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


def ptwt(device: str = "cpu") -> tuple[Map, Map]:
    """Return the packet cascade of three levels and its inverse, a level at a time.

    `ptwt.WaveletPacket2D` itself is no peer: all its modes keep more coefficients than there are samples. With mode
    "periodic" those of periodization are among them, from the third on.
    """
    ptwt = import_module("ptwt")

    def forward(x: Tensor) -> Tensor:
        for _ in range(3):
            low, details = ptwt.wavedec2(x, "bior4.4", level=1, mode="periodic")
            h, w = x.shape[2] // 2, x.shape[3] // 2
            x = torch.stack([band[..., 2 : 2 + h, 2 : 2 + w] for band in (low, *details)], 2).flatten(1, 2)
        return x

    def inverse(X: Tensor) -> Tensor:
        for _ in range(3):
            low, *details = F.pad(X, (2, 2, 2, 2), mode="circular").unflatten(1, (-1, 4)).unbind(2)
            X = ptwt.waverec2((low, ptwt.WaveletDetailTuple2d(*details)), "bior4.4")
        return X

    return forward, inverse


def pywavelets(level: int, ndim: int) -> tuple[Map, Map]:
    """Return the packet cascade and its inverse, of one axis or two."""
    import pywt

    split, merge = (pywt.dwt2, pywt.idwt2) if ndim == 2 else (pywt.dwt, pywt.idwt)

    def forward(x: Tensor) -> Tensor:
        packets = x.numpy()
        for _ in range(level):
            low, high = split(packets, "bior4.4", "periodization")
            bands = np.stack((low, *high) if ndim == 2 else (low, high), axis=2)
            packets = bands.reshape(len(bands), -1, *low.shape[2:])
        return torch.from_numpy(packets)

    def inverse(X: Tensor) -> Tensor:
        packets = X.numpy()
        for _ in range(level):
            low, *high = np.moveaxis(packets.reshape(len(X), -1, 1 << ndim, *packets.shape[2:]), 2, 0)
            if ndim == 2:
                packets = merge((low, high), "bior4.4", "periodization")
            else:
                packets = merge(low, *high, "bior4.4", "periodization")
        return torch.from_numpy(packets)

    return forward, inverse


Coding = tuple[Callable[[], Any], Callable[[], Any]]


def constriction(symbols: np.ndarray, counts: np.ndarray, widest: int) -> Coding:
    """Return encode and decode of its ANS coder; a categorical model per row."""
    from constriction import stream

    AnsCoder, Categorical = stream.stack.AnsCoder, stream.model.Categorical
    shares = counts / counts.sum(1, keepdims=True)
    models = [Categorical(row.astype(np.float32), perfect=False) for row in shares]
    columns = symbols + np.int32(widest)

    def encode() -> np.ndarray:
        coder = AnsCoder()
        for row, model in zip(columns[::-1], models[::-1], strict=True):
            coder.encode_reverse(row, model)
        words: np.ndarray = coder.get_compressed()
        return words

    data = encode()

    def decode() -> np.ndarray:
        coder = AnsCoder(data)
        symbols: np.ndarray = np.stack([coder.decode(model, columns.shape[1]) for model in models]) - np.int32(widest)
        return symbols

    return encode, decode


def compressai(symbols: np.ndarray, counts: np.ndarray, widest: int) -> Coding:
    """Return compress and decompress of its entropy bottleneck."""
    from compressai.entropy_models import EntropyBottleneck

    c, n = symbols.shape
    density = EntropyBottleneck(c)
    density.quantiles.data.copy_(torch.tensor([-float(widest), 0.0, float(widest)]).expand(c, 1, 3))
    density.update(force=True)
    x = torch.from_numpy(symbols).float()[None, :, :, None]
    strings = density.compress(x)

    def decode() -> np.ndarray:
        integers: np.ndarray = density.decompress(strings, (n, 1))[0, :, :, 0].int().numpy()
        return integers

    return lambda: density.compress(x), decode


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
