from __future__ import annotations

import pytest

pytest.importorskip("triton")
from codomain.kernels.ptxas import ARCHITECTURES, reports

SUMS = {
    "module": "codomain.kernels.vq_triton", "kernel": "_sums_kernel", "constexprs": {"BR": 32, "BD": 64},
    "signature": {
        "X": "*fp32", "ORDER": "*i64", "STARTS": "*i64", "SUMS": "*fp32", "d": "i32", "stride_n": "i32",
        "stride_d": "i32",
    },
    "num_warps": 8,
}  # fmt: skip


def test_a_report_for_every_kernel_and_architecture() -> None:
    found = reports([SUMS])
    assert [r["capability"] for r in found] == [80, 90] == list(ARCHITECTURES)
    for report in found:
        assert report["kernel"] == "_sums_kernel" and report["num_warps"] == 8
        assert 16 <= report["registers"] <= 255 and report["spilled"] == 0
        assert report["shared"] <= report["shared_limit"] == ARCHITECTURES[report["capability"]]


def test_a_kernel_that_cannot_hold_its_numbers_spills() -> None:
    pointers = {**dict.fromkeys(("X", "C", "BIAS", "MEAN", "FRAME", "X_HAT"), "*fp32"), "CODES": "*i64"}
    (report,) = reports([{
        "module": "codomain.kernels.vq_triton", "kernel": "_search_kernel", "num_warps": 2,
        "signature": {**pointers, "P1": "*fp16", "P2": "*fp16", "ERROR": "*fp64", "COUNTS": "*i64",
                      **dict.fromkeys(("n", "k", "stages", "stride_n"), "i32")},
        "constexprs": {"D": 16, "BD": 16, "BN": 32, "BK": 128, "COSINE": False, "WANTED": False},
    }], [90])  # fmt: skip
    assert report["registers"] == 255 and report["spilled"] > 0


def test_what_does_not_compile_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"a kernel does not compile: KeyError: 'X'$"):
        reports([{**SUMS, "signature": {}}], [90])
