"""What `codomain bench wpt` measures: packets of pictures and of sound, and pixels to integers in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from codomain.codecs.bench import Contender, agree, devices
from codomain.codecs.peers import is_installed, ptwt, pytorch_wavelets, pywavelets
from codomain.kernels.analysis import analyse
from codomain.kernels.wpt import iwpt, iwpt_by_convolution, wpt, wpt_by_convolution
from torch import Tensor

PICTURE = (1024, 1536)
MINUTE = -(-44100 * 60 // 256) * 256  # samples of a minute of sound, up to the next multiple of 2**8
LARGE = (4000, 6000)  # 24 megapixels
# of one level, one axis, per sample: 4 lifting steps of 3 and two scalings for every pair.
# Daubechies and Sweldens, "Factoring wavelet transforms into lifting steps", 1998, section 7
LIFTING = 7


def contenders() -> Iterator[Contender]:
    """Yield every operation of every library that is installed."""
    yield from _pictures()
    yield from _sound()
    yield from _analysis()


def _pictures() -> Iterator[Contender]:
    height, width = PICTURE
    for device, where in devices():
        x = _noise(1, 3, height, width, device=device)
        X, periodic = wpt(x, 3), wpt(x, 3, mode="periodization")
        split, merge = (f"{way}, 3 x {height} x {width}, level 3{where}" for way in ("wpt", "iwpt"))
        common: dict[str, Any] = {"amount": height * width / 1e6, "unit": "MPix", "device": device}
        work: dict[str, Any] = {"moved": 8 * x.numel(), "flop": 6 * LIFTING * x.numel()}
        yield Contender(split, "codomain", partial(wpt, x, 3), **common, **work)
        yield Contender(merge, "codomain", partial(iwpt, X, 3), **common, **work)
        yield Contender(split, "torch convolution", partial(wpt_by_convolution, x, 3), **common)
        yield Contender(merge, "torch convolution", partial(iwpt_by_convolution, X, 3), **common)
        peers = {"pytorch_wavelets": pytorch_wavelets, "ptwt": ptwt}
        for library, make in peers.items():
            if is_installed(library):
                forward, inverse = make(device)
                agree(library, forward(x), periodic)
                agree(library, inverse(periodic), x)
                yield Contender(split, library, partial(forward, x), **common)
                yield Contender(merge, library, partial(inverse, periodic), **common)
        if device == "cpu":
            forward, inverse = pywavelets(3, 2)
            agree("PyWavelets", forward(x), periodic)
            agree("PyWavelets", inverse(periodic), x)
            yield Contender(split, "PyWavelets", partial(forward, x), **common)
            yield Contender(merge, "PyWavelets", partial(inverse, periodic), **common)


def _sound() -> Iterator[Contender]:
    for device, where in devices():
        x = _noise(1, 2, MINUTE, device=device)
        X = wpt(x, 8)
        split, merge = (f"{way}, 2 x {MINUTE}, level 8{where}" for way in ("wpt", "iwpt"))
        common: dict[str, Any] = {"amount": x.numel() / 1e6, "unit": "Msamples", "device": device}
        work: dict[str, Any] = {"moved": 8 * x.numel(), "flop": 8 * LIFTING * x.numel()}
        yield Contender(split, "codomain", partial(wpt, x, 8), **common, **work)
        yield Contender(merge, "codomain", partial(iwpt, X, 8), **common, **work)
        yield Contender(split, "torch convolution", partial(wpt_by_convolution, x, 8), **common)
        yield Contender(merge, "torch convolution", partial(iwpt_by_convolution, X, 8), **common)
        if device == "cpu":
            forward, inverse = pywavelets(8, 1)
            periodic = wpt(x, 8, mode="periodization")
            agree("PyWavelets", forward(x), periodic)
            agree("PyWavelets", inverse(periodic), x)
            yield Contender(split, "PyWavelets", partial(forward, x), **common)
            yield Contender(merge, "PyWavelets", partial(inverse, periodic), **common)


def _analysis() -> Iterator[Contender]:
    """Pixels to integers, fused and in three steps."""
    generator = torch.Generator().manual_seed(0)
    for device, where in devices():
        for (height, width), latents, rate in ((PICTURE, 12, "16x"), (PICTURE, 48, "4x"), (LARGE, 12, "16x")):
            pixels = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=generator).to(device)
            weight, bias = (torch.randn(n, generator=generator).to(device) for n in ((latents, 192), (latents,)))
            fused, stepwise = _both_ways(pixels, weight, bias)
            if (fused() != stepwise()).float().mean() > 1e-3:  # a number near a tie may round either way
                raise ValueError("the fused analysis differs from its steps: no times are shown")
            operation = f"{height} x {width} pixels to int8, {rate}{where}"
            common: dict[str, Any] = {"amount": height * width / 1e6, "unit": "MPix", "device": device}
            integers = height * width * latents // 64
            flop = 6 * LIFTING * pixels.numel() + 2 * 192 * integers
            yield Contender(operation, "codomain", fused, **common, moved=pixels.numel() + integers, flop=flop)
            yield Contender(operation, "wpt, 1x1 convolution, rounding", stepwise, **common)


def _both_ways(pixels: Tensor, weight: Tensor, bias: Tensor) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    def fused() -> Tensor:
        return analyse(pixels, weight, bias, 3, dtype=torch.int8)

    def stepwise() -> Tensor:
        y = F.conv2d(wpt(pixels.float().mul_(2 / 255).sub_(1), 3), weight[:, :, None, None], bias)
        return y.round_().clamp_(-128, 127).to(torch.int8)

    return fused, stepwise


def _noise(*shape: int, device: str) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)
