from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs import bitstream
from codomain.codecs.bitstream import BitstreamError
from codomain.codecs.load import (
    ROOT,
    build,
    describe,
    index,
    load,
    load_weights,
    name_of,
    names,
    save_weights,
)
from codomain.codecs.walloc import WaLLoC

DATA = Path(__file__).parents[1] / "data"
RECORD = {
    "kind",
    "latents",
    "config",
    "weights",
    "sha256",
    "licence",
    "command",
    "commit",
    "seed",
    "data",
    "hours",
    "scores",
}


@pytest.mark.parametrize("name", list(index()))
def test_every_record_is_complete_and_true(name: str) -> None:
    record = index()[name]
    assert set(record) >= RECORD
    data = (ROOT / "pretrained" / record["weights"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == record["sha256"]
    assert len(data) <= 8_000_000
    codec = load(name)
    assert codec is load(name)
    assert not codec.training
    assert name_of(codec.digest) == name


def chord(rate: int = 44100) -> torch.Tensor:
    """A third of a second of what the golden files of sound were made from, (1, 2, t)."""
    t = torch.arange(rate // 3, dtype=torch.float64) / rate
    tones = [torch.sin(2 * torch.pi * f * t) * torch.exp(-6 * t) for f in (261.6, 329.6, 392.0, 1046.5)]
    return 0.2 * torch.stack((sum(tones[:3]), sum(tones[1:])))[None].float()


def test_a_chord_is_near_what_its_golden_file_holds() -> None:
    for name in names("sound"):
        codec = load(name)
        if codec.channels == 2:
            y = codec.decompress((DATA / f"golden_1_{name}.cdm").read_bytes())
            assert y.shape == chord().shape
            assert 10 * torch.log10(chord().square().sum() / (y - chord()).square().sum()) > 10


@pytest.mark.parametrize("name", list(index()))
def test_golden_files_decode_for_ever(name: str) -> None:
    """Version 1: the latents to the last bit; the pixels as far as floating point goes."""
    data = (DATA / f"golden_1_{name}.cdm").read_bytes()
    codec = load(name)
    file, expected = bitstream.read(data), np.load(DATA / f"golden_1_{name}.npy")
    index = file.header.quality
    chunks = [chunk for chunk in file.chunks if chunk is not None]  # of the one tile that these files have
    np.testing.assert_array_equal(codec.bottleneck.decode(chunks, expected.shape[1:], index), expected)
    assert torch.equal(
        codec.read_latents(data),
        codec.bottleneck.from_symbols(torch.from_numpy(expected.astype(np.int32))[None], index),
    )
    assert describe(file, len(data))["model"] == name


def test_models_that_were_replaced_still_load_but_are_not_offered() -> None:
    replaced = {name: record["replaced_by"] for name, record in index().items() if "replaced_by" in record}
    assert set(replaced.values()) <= set(names())
    assert not set(replaced) & set(names())
    assert {name_of(load(name).digest) for name in replaced} == set(replaced)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="no model named 'walloc'; there are: walloc-rgb"):
        load("walloc")
    with pytest.raises(BitstreamError, match="unknown weights 0000000000000000"):
        name_of(bytes(8))


def test_weights_round_trip(codec: WaLLoC, tmp_path: Path) -> None:
    codec.bottleneck.prepare_training()
    save_weights(codec, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="another codec's"):
        load_weights(build(ROOT / "configs/codecs/walloc_rgb_16x.yaml"), (tmp_path / "w.safetensors").read_bytes())
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
