from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from codomain.codecs.architecture import Architecture
from codomain.codecs.fit import Fit, Fitting, Layout, Recipe
from codomain.codecs.nerv import VideoNetwork
from codomain.codecs.weight_bottleneck import Quantized

A = Architecture((4, 4), (2, 2), (10, 8, 6), (1, 3), (1, 1), embedding=4, knot=4, time_levels=6, time_width=6, hidden=0)
FRAMES, ROOM = 7, 2500


@pytest.fixture
def clip(moving: Callable[..., list[np.ndarray]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(moving(FRAMES, 32, 31))).permute(0, 3, 1, 2)


def fitted(
    x: torch.Tensor, epochs: float = 6.0, n_bytes: int = ROOM, recipe: Recipe | None = None, **given: object
) -> tuple[Fit, Quantized]:
    torch.manual_seed(0)
    fit = Fit(VideoNetwork(A, len(x)), x, n_bytes, recipe or Recipe(), epochs, **given)
    fit.run(lambda state: None)
    return fit, fit.squeeze()


def mse_of(fit: Fit, found: Quantized) -> torch.Tensor:
    with torch.no_grad():
        x_hat = fit.frames(found.values(fit.layout.sizes), torch.arange(len(fit.x)).float())
    return (x_hat - (fit.x.float() / 127.5 - 1)).square()


def test_a_fit_learns_and_ends_within_its_bytes(clip: torch.Tensor) -> None:
    seen: list[Fitting] = []
    fit, found = fitted(clip, 40.0)
    fit2 = Fit(VideoNetwork(A, FRAMES), clip, ROOM, Recipe(), 2.0)
    fit2.run(lambda state: seen.append(Fitting(**vars(state))))
    assert ROOM * 0.95 < len(found.to_bytes(fit.layout.sizes)) <= ROOM
    assert mse_of(fit, found).mean() < 0.4 * (clip.float() / 127.5 - 1).var()
    assert [state.steps for state in seen] == [4, 8, 8]
    assert seen[-1].done == 1 and seen[0].psnr > 0 and seen[0].bits > 0


def test_a_seed_gives_the_same_integers(clip: torch.Tensor) -> None:
    first, second, third = (fitted(clip, 2.0, seed=seed)[1] for seed in (3, 3, 4))
    assert np.array_equal(first.integers, second.integers) and np.array_equal(first.steps, second.steps)
    assert not np.array_equal(first.integers, third.integers)


@pytest.mark.parametrize("n_bytes", [120, 500])
def test_few_bytes(clip: torch.Tensor, n_bytes: int) -> None:
    fit, found = fitted(clip, 1.0, n_bytes)
    assert len(found.to_bytes(fit.layout.sizes)) <= n_bytes


def test_too_few_bytes(clip: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="found no network of 20 bytes"):
        fitted(clip, 1.0, 20)


def test_chained_fits_keep_their_bytes_and_start_where_the_last_one_ended(clip: torch.Tensor) -> None:
    first, before = fitted(clip, 6.0)
    second, found = fitted(clip.flip(3), 1.0, 90, before=before)
    assert len(found.to_bytes(second.layout.sizes, before.integers)) <= 90
    same, again = fitted(clip, 1.0, 700, before=before)
    assert mse_of(same, again).mean() < 1.2 * mse_of(first, before).mean()


def test_pixels_outside_a_mask_do_not_matter(clip: torch.Tensor) -> None:
    mask = torch.ones(FRAMES, 31, 32, dtype=torch.bool)
    mask[:, 8:20, 8:20] = False
    other = clip.clone()
    other[:, :, 8:20, 8:20] = 255
    first, second = (fitted(x, 2.0, recipe=Recipe(encoder=6), mask=mask)[1] for x in (clip, other))
    assert np.array_equal(first.integers, second.integers)


def test_embeddings_are_the_encoders_until_they_are_free(clip: torch.Tensor) -> None:
    torch.manual_seed(0)
    fit = Fit(VideoNetwork(A, FRAMES), clip, ROOM, Recipe(encoder=6, encoder_until=0.5), 10.0)
    held = fit.layout.unflatten(fit.weights.values.detach())["embeddings"]
    fit.run(lambda state: None if state.done >= 0.5 else check_embeddings(fit, held, 0.4))
    assert fit.state.is_free
    assert [name for name, _ in fit.named_parameters()] == ["values", "log_steps"]
    free = fit.layout.unflatten(fit.weights.values.detach())["embeddings"]
    assert (free - made_by(fit)).abs().max() > 0.01
    last, _ = fitted(clip, 3.0, recipe=Recipe(encoder=6, encoder_until=1.0))
    check_embeddings(last, last.layout.unflatten(last.weights.values.detach())["embeddings"], 1e-5)


def made_by(fit: Fit) -> torch.Tensor:
    assert fit.encoder is not None
    with torch.no_grad():
        return fit.encoder(fit.x[[0, 4, 6]].float() / 127.5 - 1)


def check_embeddings(fit: Fit, held: torch.Tensor, near: float) -> None:
    assert (held - made_by(fit)).abs().max() < near


def test_the_encoder_learns_through_the_network(clip: torch.Tensor) -> None:
    torch.manual_seed(0)
    recipe = Recipe(lr=0.0, step_lr=0.0, encoder=8, encoder_until=1.0, encoder_lr=5e-3, rate_from=1.0)
    fit = Fit(VideoNetwork(A, FRAMES), clip, 1 << 20, recipe, 20.0)
    fit.step(torch.arange(FRAMES))
    start = fit.state.psnr
    fit.run(lambda state: None)
    assert fit.state.psnr > start + 0.5


@pytest.mark.parametrize(("frames", "batch"), [(1, 2), (3, 8)])
def test_fewer_frames_than_a_batch(clip: torch.Tensor, frames: int, batch: int) -> None:
    fit = Fit(VideoNetwork(A, frames), clip[:frames], ROOM, Recipe(batch=batch), 3.0)
    fit.run(lambda state: None)
    assert fit.state.steps == 3
    assert len(fit.squeeze().to_bytes(fit.layout.sizes)) <= ROOM


@pytest.mark.parametrize("end", [(None, None), (1.0, 1.0), (0.0, None), (None, 0.0), (-1.0, None)])
def test_when_it_ends_is_said_once(clip: torch.Tensor, end: tuple[float | None, float | None]) -> None:
    with pytest.raises(ValueError, match="a fit"):
        Fit(VideoNetwork(A, FRAMES), clip, ROOM, Recipe(), *end)


def test_a_watcher_is_told_within_a_pass(clip: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codomain.codecs.fit.PAUSE", 0.0)
    seen: list[int] = []
    Fit(VideoNetwork(A, FRAMES), clip, ROOM, Recipe(), 2.0).run(lambda state: seen.append(state.steps))
    assert sorted(set(seen)) == list(range(9))


def test_an_end_takes_no_further_steps(clip: torch.Tensor) -> None:
    fit, _ = fitted(clip, 2.0, 600)
    assert fit.state.steps == 8
    broken = Fit(VideoNetwork(A, FRAMES), clip, 600, Recipe(), 20.0)
    broken.state.done = 0.6
    assert len(broken.squeeze().to_bytes(broken.layout.sizes)) <= 600
    assert 0 < broken.state.steps <= 16 * 4


def test_seconds(clip: torch.Tensor) -> None:
    fit = Fit(VideoNetwork(A, FRAMES), clip, ROOM, Recipe(), seconds=0.3)
    fit.run(lambda state: None)
    assert 0.3 <= fit.state.seconds < 3 and fit.state.steps > 0


def test_layout_is_a_permutation() -> None:
    network = VideoNetwork(A, FRAMES)
    layout = Layout(network)
    values = layout.flatten(network)
    assert sum(layout.sizes) == len(values) == A.n_parameters(FRAMES)
    assert layout.sizes[:4] == [len(network.embeddings) * 16] * 4
    assert torch.equal(values[: layout.sizes[0]], network.embeddings[:, 0].flatten())
    for name, part in layout.unflatten(values).items():
        assert torch.equal(part, network.get_parameter(name))
