from __future__ import annotations

import numpy as np
import pytest
import torch
from codomain.codecs.architecture import Architecture
from codomain.codecs.bitstream import File, Header
from codomain.codecs.coder import BitstreamError
from codomain.codecs.segments import Plan, Segment, cuts_of, plan_of, segment_at
from hypothesis import given, settings
from hypothesis import strategies as st

A = Architecture((2, 3), (3, 2), (10, 8, 7), (1, 3), (2, 1), time_levels=6, time_width=5)
PLAN = Plan(A, (Segment(0, 10, False, 12), Segment(10, 12, True, 12), Segment(22, 3, False, 3)))
HEADER = Header("video", bytes(8), (36, 24, 25, 25, 1))


def scene(seed: int, frames: int) -> torch.Tensor:
    """Smooth noise that moves, uint8."""
    rng = np.random.default_rng(seed)
    picture = torch.from_numpy(rng.uniform(0, 255, (1, 3, 4, 6))).float()
    wide = torch.nn.functional.interpolate(picture, scale_factor=16, mode="bilinear")[0]
    return torch.stack([wide[:, i : i + 36, i : i + 48] for i in range(frames)]).to(torch.uint8)


def test_cuts_are_where_scenes_change() -> None:
    x = torch.cat([scene(0, 20), scene(1, 15), scene(2, 9)])
    assert cuts_of(x, 256) == [0, 20, 35]
    assert cuts_of(x, 10) == [0, 10, 20, 27, 35]
    assert cuts_of(x[:1], 256) == [0]
    assert cuts_of(x[19:21], 1) == [0, 1]


def test_fades_and_motion_are_no_cuts() -> None:
    share = torch.linspace(0, 1, 16)[:, None, None, None]
    fade = torch.lerp(scene(0, 28)[12:].float(), scene(1, 16).float(), share).to(torch.uint8)
    assert cuts_of(torch.cat([scene(0, 12), fade, scene(1, 28)[16:]]), 256) == [0]
    assert cuts_of(torch.stack([scene(i, 1)[0] for i in range(20)]), 256) == [0]  # every frame is a scene


def test_round_trip_of_a_plan() -> None:
    assert Plan.read(PLAN.to_bytes(), HEADER) == PLAN


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=30), st.integers(0, 40))
def test_hostile_plans(noise: bytes, at: int) -> None:
    good = PLAN.to_bytes()
    for data in (noise, good[:at], good[:at] + noise + good[at + len(noise) :]):
        try:
            found = Plan.read(data, HEADER)
        except BitstreamError:
            continue
        assert found.to_bytes() == data


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ((Segment(0, 25, True, 25),), "segment 1 is damaged"),
        ((Segment(0, 25, False, 24),), "segment 1 is damaged: 25 frames of 24"),
        ((Segment(0, 20, False, 20), Segment(20, 5, True, 5)), "segment 2 is damaged"),
        ((Segment(0, 24, False, 24),), "segments of 24 frames; the clip has 25"),
        ((), "segments of 0 frames"),
        ((Segment(0, 25, False, 1 << 31),), "parameters; at most 134217728 are allowed"),
    ],
)
def test_plans_that_are_none(segments: tuple[Segment, ...], message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        Plan.read(Plan(A, segments).to_bytes(), HEADER)


def test_chunks_are_those_of_the_plan() -> None:
    assert plan_of(File(HEADER, [PLAN.to_bytes(), b"", None, b""])) == PLAN
    with pytest.raises(BitstreamError, match="plan of the clip is missing"):
        plan_of(File(HEADER, [None, b""]))
    with pytest.raises(BitstreamError, match="2 chunks; a clip of 3 segments has one more"):
        plan_of(File(HEADER, [PLAN.to_bytes(), b""]))


def test_segment_of_a_time() -> None:
    times = (0.0, 9.0, 9.5, 10.0, 21.9, 22.0, 24.0)
    assert [segment_at(PLAN, time) for time in times] == [0, 0, 0, 1, 1, 2, 2]
