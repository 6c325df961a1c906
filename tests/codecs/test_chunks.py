from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from codomain.codecs.bottleneck import EntropyBottleneck
from codomain.codecs.coder import BitstreamError, Tables
from codomain.codecs.context import ContextModel
from codomain.codecs.context_bottleneck import ContextBottleneck
from codomain.codecs.load import load
from codomain.kernels.context import N_TABLES, PHASES, Forms

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the first import of triton: its kernels then run on CPU tensors
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GRIDS = [(3, 4), (1, 2), (2, 5)]


def laplace(d: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    parts = [torch.from_numpy(np.round(rng.laplace(0, 5, (d, *grid))).astype(np.int32)) for grid in GRIDS]
    parts[2][d - 1, 1, 2] = -(2**30)
    return [part.to(DEVICE) for part in parts]


def plain() -> EntropyBottleneck:
    rng = np.random.default_rng(1)
    bottleneck = EntropyBottleneck(3)
    tables = Tables.from_counts(rng.integers(0, 9, (3, 25)), np.full(3, -12))
    bottleneck.freqs, bottleneck.offsets = torch.from_numpy(tables.freqs), torch.from_numpy(tables.offsets)
    return bottleneck


def in_context(forms: Forms) -> ContextBottleneck:
    rng = np.random.default_rng(1)
    bottleneck = ContextBottleneck(2, anchors=2)
    tables = Tables.from_counts(rng.integers(0, 9, (N_TABLES, 25)), np.full(N_TABLES, -12))
    floors = rng.integers(1, 900, (2, len(PHASES), 2)).astype(np.int32)
    bottleneck._keep(ContextModel(forms, floors, tables))
    return bottleneck


@pytest.mark.parametrize("kind", ["plain", "contexts"])
def test_payloads_are_those_of_the_cpu(make_forms: Callable[..., Forms], kind: str) -> None:
    bottleneck = plain() if kind == "plain" else in_context(make_forms(2))
    index = 0 if kind == "plain" else 101
    symbols = laplace(bottleneck.channels)
    payloads = bottleneck._encode_on_gpu(symbols, index)
    assert payloads == bottleneck.encode_chunks([part.cpu() for part in symbols], index)
    back = bottleneck._decode_on_gpu(payloads, GRIDS, index, DEVICE)
    assert all(map(torch.equal, back, symbols))
    latents = list(bottleneck.decode_chunks(payloads, GRIDS, index, torch.device("cpu")))
    for part, y in zip(symbols, latents, strict=True):
        assert torch.equal(bottleneck.from_symbols(part.cpu()[None], index), y)
    (data,) = payloads[2]
    cut, noise, more = data[:-2], data[:-4] + b"\x12\x34\x56\x78", b"\1\7" + data[data[0] + 1 :]
    damaged = (cut, noise, more, data[:3])
    for hostile in damaged:
        with pytest.raises(BitstreamError):
            bottleneck._decode_on_gpu([[hostile]], GRIDS[2:], index, DEVICE)
        with pytest.raises(BitstreamError):
            bottleneck.decode([hostile], GRIDS[2], index)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["walloc-rgb-4x", "walloc-rgb-16x-fixed"])
def test_a_codec_on_a_gpu_reads_and_writes_the_same_files(name: str, photo: torch.Tensor) -> None:
    """What the coder does is equal; steps, pixels and latents near a border of rounding are as near as floats are."""
    picture = photo.repeat(1, 1, 4, 4)  # more than one chunk
    here, there = load(name), deepcopy(load(name)).to(DEVICE)  # `load` keeps one of each
    data, other = here.compress(picture), there.compress(picture)
    assert abs(len(data) - len(other)) < 0.002 * len(data)
    for file in (data, other):
        y, x_hat = there.read_latents(file), there.decompress(file)
        assert y.device.type == x_hat.device.type == "cuda"
        torch.testing.assert_close(y.cpu(), here.read_latents(file), rtol=1e-6, atol=0)
        assert float((x_hat.cpu() - here.decompress(file)).abs().max()) <= 2 / 255
    with pytest.raises(BitstreamError):
        there.read_latents(data[:-5])
