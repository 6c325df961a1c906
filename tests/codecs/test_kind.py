from __future__ import annotations

import math
from itertools import combinations

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
    keys = [column.key for column in (kind.rate, *kind.sizes, *kind.metrics, *kind.costs)]
    assert list(kind.columns) == keys
    assert all(s.startswith(".") for s in kind.suffixes)


def test_kinds_share_no_name_but_that_of_costs() -> None:
    for one, other in combinations(KINDS.values(), 2):
        assert not one.scales.keys() & other.scales.keys()
        assert not one.suffixes & other.suffixes
        measured = {column.key for kind in (one, other) for column in (kind.rate, *kind.metrics)}
        assert one.columns.keys() & other.columns.keys() - measured == {"threads", "start_s", "peak_mb"}
