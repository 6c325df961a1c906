from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from codomain.codecs.architecture import Architecture, choose_strides
from codomain.codecs.coder import BitstreamError, write_varint
from codomain.codecs.nerv import VideoNetwork
from hypothesis import given, settings
from hypothesis import strategies as st

BOOSTED = Architecture((2, 3), (3, 2), (10, 8, 7), (1, 5), (2, 1), knot=4, time_levels=6, time_width=5, hidden=9)
FORMS = [
    BOOSTED,
    replace(BOOSTED, hidden=0, head="rgb", embedding=0),
    replace(BOOSTED, stem_residual=True),
    replace(BOOSTED, block="plain", activation="gelu", kernels=(3, 3)),
    replace(BOOSTED, block="sandwich", activation="silu", channels=(8, 8, 5), embedding=0),
]


@pytest.mark.parametrize("a", FORMS)
def test_round_trip_of_bytes(a: Architecture) -> None:
    data = a.to_bytes()
    assert Architecture.read(b"xy" + data + b"z", 2) == (a, 2 + len(data))
    assert len(data) < 32


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 26))
def test_hostile_bytes(noise: bytes, at: int) -> None:
    good = BOOSTED.to_bytes()
    for data in (noise, good[:at], good[:at] + noise + good[at + len(noise) :]):
        try:
            found, end = Architecture.read(data)
        except BitstreamError:
            continue
        assert found.to_bytes() == data[:end]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernels": (1, 4)}, "expected odd ones"),
        ({"embedding": 0, "time_levels": 0}, "nothing tells one frame from another"),
        ({"time_width": 0}, "nothing tells one frame from another"),
        ({"strides": (3, 17)}, "17, expected 1 to 16"),
        ({"time_base": 100}, "100, expected 101 to 1000"),
    ],
)
def test_records_that_are_none(change: dict[str, object], message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        Architecture.read(replace(BOOSTED, **change).to_bytes())
    with pytest.raises(BitstreamError, match="expected 1 to 8"):
        Architecture.read(write_varint(9) + bytes(100))


@pytest.mark.parametrize("a", FORMS)
@pytest.mark.parametrize("frames", [1, 2, 5, 6, 17])
def test_parameters_are_those_of_the_network(a: Architecture, frames: int) -> None:
    network = VideoNetwork(a, frames)
    assert a.n_parameters(frames) == sum(p.numel() for p in network.parameters())
    assert network.knots == a.knots(frames) == len(range(0, frames - 1, a.knot)) + 1


@pytest.mark.parametrize("a", FORMS)
def test_multiplications_are_those_of_the_network(a: Architecture) -> None:
    """Those of biases are counted too: a few percent."""
    network, found = VideoNetwork(a, 5).eval(), []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(
                lambda m, _, out: found.append((m.weight.numel() * out[0].numel() // m.weight.shape[0], out.numel()))
            )
    network(torch.zeros(1))
    assert a.macs == pytest.approx(sum(macs for macs, _ in found), rel=0.13)
    assert a.macs >= sum(macs for macs, _ in found)
    assert a.features == max(numbers for _, numbers in found)


def test_limits_are_known_before_anything_is_allocated() -> None:
    assert BOOSTED.size == (24, 36)
    assert BOOSTED.fault(20, 30, 7) is None
    assert "make 24 x 36 pixels; the clip has 25 x 36" in BOOSTED.fault(25, 36, 7)
    assert "make 24 x 36 pixels; the clip has 12 x 36" in BOOSTED.fault(12, 36, 7)
    assert "at most 134217728 are allowed" in BOOSTED.fault(24, 36, 1 << 31)
    assert "at most 134217728 are allowed" in replace(BOOSTED, channels=(8192, 8192, 8)).fault(24, 36, 1)
    ones = (1, 1, 1)
    wide = replace(BOOSTED, grid=(1, 1), strides=(16,) * 3, channels=(8,) * 4, kernels=ones, depths=ones, block="plain")
    assert "numbers at a time" in wide.fault(1, 1, 3)


@pytest.mark.parametrize("finest", [1, 2])
@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (2, 3), (3, 500), (500, 3), (17, 23), (144, 176), (320, 640), (720, 1280), (1080, 1920), (2160, 3840)],
)
def test_strides_of_any_size(height: int, width: int, finest: int) -> None:
    grid, strides = choose_strides(height, width, finest)
    scale = prod(strides) * finest
    assert grid == (-(-height // scale), -(-width // scale))
    a = replace(BOOSTED, grid=grid, strides=strides, head=("rgb", "yuv420")[finest - 1], embedding=4).widened(
        12, 1.2, 8
    )
    n = len(strides)
    a = replace(a, channels=a.channels[:1] + (8,) * n, kernels=(3,) * n, depths=(1,) * n)
    assert a.fault(height, width, 30) is None
    if min(height, width) >= 100:
        assert prod(a.size) < 1.12 * height * width
        assert 8 <= prod(grid) <= 1300


def test_channels_fall_to_the_floor() -> None:
    assert replace(BOOSTED, strides=(2, 2, 2)).widened(40, 2.0, 12).channels == (40, 20, 12, 12)
