from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from codomain.codecs import bitstream
from codomain.codecs.encoding import Encoding, Settings
from codomain.codecs.nerv_codec import NervCodec
from codomain.codecs.segments import plan_of


def small(**form: object) -> NervCodec:
    return NervCodec(**{"strides": (2, 2), "embedding": 4, "time_levels": 6, "time_width": 4, "floor": 4} | form)


@pytest.mark.parametrize("chained", [False, True])
def test_a_file_of_some_segments_is_whole(moving: Callable[..., list[np.ndarray]], chained: bool) -> None:
    """What is fitted when a user stops is a file of those frames, and never above its bytes."""
    x = torch.from_numpy(np.stack(moving(10, 20, 16))).permute(0, 3, 1, 2)
    codec, settings = small(chained=chained), Settings(4000, None, 1.0)
    encoding = Encoding(codec, (10, 16, 20), settings, [0, 4, 7])
    assert [(s.frames, s.chained) for s in encoding.plan.segments] == [(4, False), (3, chained), (3, chained)]
    assert {s.counted for s in encoding.plan.segments} == ({4} if chained else {4, 3})
    assert sum(encoding.bytes) <= 4000
    for frames in (4, 7, 10):
        segment = encoding.plan.segments[len(encoding.done)]
        encoding.fit(segment, x[segment.start : segment.start + segment.frames])
        file = bitstream.read(encoding.finish(Fraction(30000, 1001)))
        assert file.header.shape == (20, 16, frames, 30000, 1001)
        assert len(plan_of(file).segments) == len(encoding.done)
        assert len(list(codec.frames(file))) == frames
    assert len(encoding.finish(Fraction(30000, 1001))) <= 4000


def test_seconds_are_shared_as_bytes_are() -> None:
    encoding = Encoding(small(), (10, 16, 20), Settings(4000, 90.0), [0, 5])
    assert encoding.seconds == [45.0, 45.0]
    chained = Encoding(small(chained=True), (10, 16, 20), Settings(5000, 90.0), [0, 5])
    assert chained.seconds == [60.0, 30.0]
    assert chained.bytes[0] == pytest.approx(2 * chained.bytes[1], abs=2)


def test_too_few_bytes_for_any_network() -> None:
    with pytest.raises(ValueError, match=r"bytes are too few for 10 frames of this size; expected \d+ or more"):
        Encoding(small(), (10, 16, 20), Settings(150, None, 1.0), [0])
