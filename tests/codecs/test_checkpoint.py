from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs.checkpoint import Checkpoint
from codomain.codecs.encoding import Encoding, Settings
from codomain.codecs.fit import Fitting
from codomain.codecs.nerv_codec import NervCodec

KEY = {"source": "waves", "seed": 0}


def encoding(chained: bool = True, encoder: int = 0) -> Encoding:
    recipe = {"encoder": encoder, "encoder_until": 0.75}
    codec = NervCodec(embedding=4, segment=6, chained=chained, recipe=recipe)
    return Encoding(codec, (12, 32, 48), Settings(4200, None, epochs=4.0), [0, 6])


@pytest.mark.parametrize(("chained", "encoder"), [(True, 0), (False, 0), (False, 8)])
def test_an_encoding_goes_on_as_if_it_had_never_stopped(
    tmp_path: Path, moving: Callable[..., list[np.ndarray]], chained: bool, encoder: int
) -> None:
    x = torch.from_numpy(np.stack(moving(12))).permute(0, 3, 1, 2)
    whole, broken, resumed = (encoding(chained, encoder) for _ in range(3))
    first, second = whole.plan.segments
    for each in (whole, broken):
        each.fit(first, x[:6])
    one = whole.start(second, x[6:])
    one.run(lambda state: None)

    fit, checkpoint = broken.start(second, x[6:]), Checkpoint(tmp_path / "state", KEY)

    def stop(state: Fitting) -> None:
        if state.steps == 6:
            checkpoint.save(broken, fit)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit.run(stop)
    again = Checkpoint(tmp_path / "state", KEY)
    assert again.load(resumed)
    assert resumed.chunks == whole.chunks
    two = resumed.start(second, x[6:])
    again.resume(two)
    assert two.state.steps == 6
    two.run(lambda state: None)
    assert two.state.steps == one.state.steps == 12
    assert torch.equal(two.weights.values, one.weights.values)
    assert torch.equal(two.weights.log_steps, one.weights.log_steps)
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_states_of_others_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert not Checkpoint(path, KEY).load(encoding())
    Checkpoint(path, KEY).save(encoding())
    with pytest.raises(ValueError, match=r"another encoding \(it differs in seed\): --force starts anew"):
        Checkpoint(path, KEY | {"seed": 1}).load(encoding())
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="no state of an encoding"):
        Checkpoint(path, KEY).load(encoding())
