"""CompressAI's weights are not at hand in a test: random ones of the same shape lie where its downloads would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs.contenders import label, parse
from codomain.codecs.zoo import parse_zoo, weights_path
from compressai.zoo import image_models


def test_weights_that_are_not_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"its weights are not at hand: .*pth\.tar does not exist"):
        parse("mbt2018-mean:3")


def test_other_names_and_qualities() -> None:
    assert parse_zoo("nothing:3") is None
    with pytest.raises(ValueError, match="expected bmshj2018-factorized:1 to bmshj2018-factorized:8"):
        parse_zoo("bmshj2018-factorized:9")


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean"])
def test_a_file_comes_back_as_the_model_itself_decodes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = image_models[name](1, pretrained=False)
    model.update(force=True)
    weights_path(name, 1).parent.mkdir()
    torch.save(model.state_dict(), weights_path(name, 1))
    contender = parse(f"{name}:1")
    assert label(contender) == f"{name}:1"
    x = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)  # no multiple of 64
    data = contender.compress(x)
    signal = torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255
    signal = torch.nn.functional.pad(signal, (0, 28, 0, 58), mode="replicate")
    coded = model.eval().compress(signal)
    assert len(data) == 8 + sum(4 + len(string) for (string,) in coded["strings"])
    with torch.inference_mode():
        expected = model.decompress(coded["strings"], coded["shape"])["x_hat"][0, :, :70, :100].clamp(0, 1) * 255
    assert np.allclose(contender.decompress(data), expected.permute(1, 2, 0).numpy(), atol=1e-3)
