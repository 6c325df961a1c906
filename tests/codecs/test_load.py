from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs import bitstream
from codomain.codecs.bitstream import BitstreamError
from codomain.codecs.encoding import Settings
from codomain.codecs.load import (
    OTHER,
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
from codomain.codecs.nerv_codec import BITS_PER_PARAMETER, NervCodec
from codomain.codecs.walloc import WaLLoC

TRAINED = [name for name, record in index().items() if "weights" in record]
FITTED = [name for name in index() if name not in TRAINED]
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


@pytest.mark.parametrize("name", TRAINED)
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


@pytest.mark.parametrize("name", TRAINED)
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


def test_a_config_of_video_needs_no_entry() -> None:
    codec = load(str(ROOT / "configs/codecs/hnerv_boost_paper.yaml"))
    assert isinstance(codec, NervCodec)
    assert codec.form["stem_residual"] and codec.recipe.encoder == 64
    assert name_of(codec.digest) == OTHER
    assert load(OTHER).digest == codec.digest
    assert OTHER not in names()
    with pytest.raises(ValueError, match="codes video alone; found one of image"):
        load(str(ROOT / "configs/codecs/walloc_rgb_16x.yaml"))
    with pytest.raises(FileNotFoundError):
        load("nowhere.yaml")


def test_a_file_decodes_without_the_config_that_it_was_made_with(
    tmp_path: Path, moving: Callable[..., list[np.ndarray]]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model: {codec: {class_path: codomain.codecs.nerv_codec.NervCodec, init_args: {stem_residual: true, "
        "strides: [2, 2], embedding: 4, time_levels: 6, time_width: 4, floor: 4, recipe: {encoder: 4}}}}"
    )
    x = torch.from_numpy(np.stack(moving(3, 20, 16))).permute(0, 3, 1, 2)[None]
    codec = load(str(path))
    assert isinstance(codec, NervCodec)
    data = codec.compress(x, settings=Settings(3000, None, 1.0))
    path.unlink()
    found = load(name_of(bitstream.read(data).header.model))
    assert torch.equal(found.decompress(data), codec.decompress(data))
    assert "boosted sine" in describe(bitstream.read(data), len(data))["architecture"]


def test_files_that_are_no_config(tmp_path: Path) -> None:
    for i, text in enumerate(("a: 1", "[", "- x", "model: 3")):
        (tmp_path / f"{i}.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"expected a config with model\.codec"):
            load(str(tmp_path / f"{i}.yaml"))


def test_weights_round_trip(codec: WaLLoC, tmp_path: Path) -> None:
    codec.bottleneck.prepare_training()
    save_weights(codec, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="another codec's"):
        load_weights(build(ROOT / "configs/codecs/walloc_rgb_16x.yaml"), (tmp_path / "w.safetensors").read_bytes())
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("name", FITTED)
def test_models_of_video_have_a_config_and_no_weights(name: str) -> None:
    record, codec = index()[name], load(name)
    assert set(record) == {"kind", "latents", "config", "sha256", "licence", "scores"}
    assert hashlib.sha256(f"codomain video network {name}".encode()).hexdigest() == record["sha256"]
    assert (codec.kind, record["kind"], codec.name) == ("video", "video", name)
    assert name_of(codec.digest) == name
    assert names("video") == FITTED


def test_networks_of_the_papers_have_their_sizes() -> None:
    """Numbers, first channels and multiplications that the authors' scripts count, of Bunny's 132 frames."""
    for config, size, first, numbers, macs in (
        ("hnerv", (640, 1280), 68, 1.505e6, 28.8e9),
        ("hnerv_boost", (720, 1280), 50, 0.759e6, 32e9),
        ("hnerv_boost", (720, 1280), 86, 1.508e6, 96e9),
        ("hnerv_boost", (720, 1280), 134, 3.081e6, 230e9),
    ):
        codec = build(ROOT / f"configs/codecs/{config}_paper.yaml")
        assert isinstance(codec, NervCodec)
        found = codec.architecture(*size, 132, round(1.0005 * numbers * BITS_PER_PARAMETER / 8))
        assert (found.size, found.channels[0]) == (size, first)
        assert found.n_parameters(132) == pytest.approx(numbers, rel=1e-3)
        assert found.macs == pytest.approx(macs, rel=0.01)
