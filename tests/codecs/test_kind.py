from __future__ import annotations

import math

import pytest
from codomain.codecs.contenders import KINDS
from codomain.codecs.kind import Column, Metric, capped, distance_db, lacking_db


def test_figures_as_people_read_them() -> None:
    assert Column("x", "x", 2).show(3.14159) == "3.14"
    free = Column("x", "x")
    assert [free.show(v) for v in (None, "jpeg", 3.14159, 0.00123456, 173.6, 24)] == [
        "-",
        "jpeg",
        "3.14",
        "0.00123",
        "174",
        "24",
    ]


def test_curves_are_compared_in_decibels_that_grow() -> None:
    assert capped(math.inf) == 100
    assert distance_db(0.01) == pytest.approx(20)
    assert lacking_db(0.99) == pytest.approx(20)
    assert distance_db(0.0) == lacking_db(1.0) == 100
    assert Metric("psnr", "PSNR dB").axis == "PSNR dB"
    assert Metric("ssim", "SSIM").axis == "SSIM, dB"
    assert Metric("pesq", "PESQ", unit="MOS").axis == "PESQ, MOS"


@pytest.mark.parametrize("name", list(KINDS))
def test_every_kind_is_whole(name: str) -> None:
    kind = KINDS[name]
    assert kind.name == name
    assert {kind.anchor} <= kind.scales.keys()
    assert [kind.metric(key).key for key in kind.compared] == list(kind.compared)
    keys = [kind.rate.key, *(m.key for m in kind.metrics), *(c.key for c in kind.costs)]
    assert list(kind.columns) == keys
    assert all(s.startswith(".") for s in kind.suffixes)


def test_kinds_share_no_name_but_that_of_costs() -> None:
    image, sound = KINDS["image"], KINDS["sound"]
    assert not image.scales.keys() & sound.scales.keys()
    assert not image.suffixes & sound.suffixes
    assert image.columns.keys() & sound.columns.keys() == {"threads", "start_s", "peak_mb"}
