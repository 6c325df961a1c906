from __future__ import annotations

import numpy as np
import pytest
from codomain.codecs import code_model
from codomain.codecs.code_model import CodeModel
from codomain.codecs.coder import BitstreamError, Tables

K, CLASSES = 16, 4


def walk(t: int, seed: int) -> np.ndarray:
    """Codes of two stages of two groups, slow in time."""
    rng = np.random.default_rng(seed)
    first = (np.abs(rng.integers(-1, 2, t).cumsum()) % K).astype(np.int32)
    rest = [(first + rng.integers(0, 2, t)) % K for _ in range(3)]
    return np.stack([first, *rest]).astype(np.int32)


@pytest.fixture(scope="module")
def model() -> CodeModel:
    classes = np.tile(np.arange(K, dtype=np.uint8) // (K // CLASSES), (4, 1))
    return code_model.count([walk(500, seed) for seed in range(20)], classes, 2)


@pytest.mark.parametrize("t", [1, 2, 3, 100, 1001])
def test_codes_come_back_stage_by_stage(model: CodeModel, t: int) -> None:
    codes, back = walk(t, 99), np.zeros((4, t), np.int32)
    payloads = [model.encode(codes, stage) for stage in (0, 1)]
    for stage, data in enumerate(payloads):
        model.decode(data, back, stage)
        assert np.array_equal(back[: 2 * stage + 2], codes[: 2 * stage + 2])


def test_what_a_code_follows_from_saves_bits(model: CodeModel) -> None:
    codes = [walk(2000, seed) for seed in range(50, 54)]
    bits = code_model.ladder(model, codes)
    assert bits["fixed length"] == 4
    assert bits["previous frame"] < bits["order 0"] - 0.8 < 3.25
    n_bytes = sum(len(model.encode(part, stage)) for part in codes for stage in (0, 1))
    assert n_bytes * 8 / sum(part.size for part in codes) == pytest.approx(bits["previous frame"], rel=0.02)


def test_damaged_payloads_are_refused(model: CodeModel) -> None:
    codes = walk(300, 7)
    data = model.encode(codes, 0)
    for damaged in (data[:-2], data + b"\0\0", b"", data[:20]):
        with pytest.raises(BitstreamError):
            model.decode(damaged, np.zeros((4, 300), np.int32), 0)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    back = np.zeros((4, 300), np.int32)
    try:
        model.decode(bytes(flipped), back, 0)
    except BitstreamError:
        pass
    assert 0 <= back.min() <= back.max() < K


def test_a_model_has_a_table_for_every_context(model: CodeModel) -> None:
    tables = Tables.from_counts(np.ones((3, K), np.int64), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"expected 36 tables; found 3"):
        CodeModel(model.classes, tables, 2)
