"""What `codomain bench vq` measures: the nearest of many codes, and residual stages of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any

import torch
from codomain.codecs.bench import Contender, devices
from codomain.codecs.peers import is_installed, vector_quantize_pytorch
from codomain.kernels.vq import nearest_code, residual_codes
from torch import Tensor

LOOKUPS = ((16384, 64, 1024), (16384, 128, 8192), (4096, 8, 65536))  # vectors, components, codes
STAGES = 4  # of the residual lookup, of the first of these sizes with four times the vectors
# products that an exact lookup cannot do without: one of float32, and in float16 three for the same accuracy;
# what is compared in float64 beside them are a few vectors in a thousand
PRODUCTS = {"cpu": 1, "cuda": 3}


def contenders() -> Iterator[Contender]:
    """Yield every lookup of every library that is installed."""
    has_peer = is_installed("vector_quantize_pytorch")
    (n, d, k), *_ = LOOKUPS
    for device, where in devices():
        random = torch.Generator().manual_seed(0)
        for shape in (*LOOKUPS, (4 * n, d, k, STAGES)):
            x = torch.randn(shape[:2], generator=random).to(device)
            books = torch.randn(*shape[3:], shape[2], shape[1], generator=random).to(device)
            ours = partial(nearest_code if len(shape) == 3 else residual_codes, x, books)
            stages = f", {STAGES} stages" * (len(shape) == 4)
            operation = f"{shape[0]} x {shape[1]}, {shape[2]} codes{stages}{where}"
            common: dict[str, Any] = {"amount": shape[0] / 1e6, "unit": "Mvectors", "device": device}
            result: Any = ours()
            moved = x.nbytes + books.nbytes + sum(t.nbytes for t in ([result] if len(shape) == 3 else result))
            flop = 2 * PRODUCTS[device] * prod(shape)
            yield Contender(operation, "codomain", ours, **common, moved=moved, flop=flop)
            if has_peer:
                theirs: Callable[[], Tensor] = vector_quantize_pytorch(x, books)
                same_codes("vector-quantize-pytorch", theirs(), result if len(shape) == 3 else result.codes)
                yield Contender(operation, "vector-quantize-pytorch", theirs, **common)


def same_codes(library: str, theirs: Tensor, ours: Tensor) -> None:
    """Raise ValueError if codes differ.

    Ours are exact; float32 distances err for some vectors in a million, and once wrong a residual stays so.
    """
    wrong = (theirs != ours).reshape(len(ours), -1).any(1).double().mean()
    if wrong > 1e-4:
        raise ValueError(f"{library} and codomain choose other codes for {wrong:.2%} of vectors: no times are shown")
