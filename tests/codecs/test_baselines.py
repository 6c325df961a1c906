from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from codomain.codecs.baselines import SCALES, Baseline, baseline, is_installed
from codomain.codecs.contenders import parse
from codomain.codecs.metrics import bpp, psnr
from PIL import Image

CHELSEA = Path(__file__).parents[1] / "data" / "chelsea.png"


@pytest.mark.parametrize("name", [name for name in SCALES if is_installed(name)])
def test_quality_costs_bytes_and_pays(name: str) -> None:
    with Image.open(CHELSEA) as image:
        x = np.asarray(image.convert("RGB"))
    rates, qualities = [], []
    for quality in (50, 70, 90) if name == "jpeg2000" else (30, 40, 50):
        codec = parse(f"{name}:{quality}")
        assert (codec.name, codec.quality) == (name, quality)
        assert re.search(r"\d+\.\d+", codec.version)
        data = codec.compress(x)
        x_hat = codec.decompress(data)
        assert (x_hat.shape, x_hat.dtype) == (x.shape, np.uint8)
        rates.append(bpp(len(data), x.shape[1], x.shape[0]))
        qualities.append(psnr(x, x_hat, 255.0))
    assert rates == sorted(set(rates))
    assert qualities == sorted(set(qualities))
    assert rates[0] < 1.5
    assert qualities[0] > 28


def test_jpeg2000_is_the_irreversible_one_and_aims_at_its_rate() -> None:
    with Image.open(CHELSEA) as image:
        x = np.asarray(image.convert("RGB"))
    codec = parse("jpeg2000:80")
    data = codec.compress(x)
    assert bpp(len(data), x.shape[1], x.shape[0]) == pytest.approx(0.8, rel=0.02)
    cod = data.index(b"\xff\x52")  # COD marker: its last parameter before precincts is the wavelet, 0 is 9/7
    assert data[cod + 13] == 0


@pytest.mark.parametrize("text", ["jpeg:300", "jpeg:", "webp:high", "jpeg2000:3"])
def test_qualities_off_the_scale(text: str) -> None:
    with pytest.raises(ValueError, match=rf"'{text}': expected {text.split(':')[0]}:\d+ to"):
        parse(text)


def test_a_codec_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codomain.codecs.baselines.is_installed", lambda name: False)
    with pytest.raises(ValueError, match="'jxl:50': jxl is not installed"):
        baseline("jxl", 50.0)


def test_our_models_are_no_baselines() -> None:
    assert not isinstance(parse("walloc-rgb-4x"), Baseline)
