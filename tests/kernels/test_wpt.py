from __future__ import annotations

import itertools

import numpy as np
import pytest
import pywt
import torch
from codomain.kernels import wpt as module
from codomain.kernels.wpt import iwpt, iwpt_reference, reach, wpt, wpt_reference

MODES = ["periodization", "symmetric"]
# float64: a few hundred roundings of 1e-16; float32: the same of 6e-8, on values up to 8
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, dtype=dtype) * 2 - 1


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior2.2", "bior4.4", "sym5"])
def test_periodization_equals_pywavelets_in_2d(wavelet: str, level: int) -> None:
    x = noise(2, 3, 80, 48)
    tree = [pywt.WaveletPacket2D(p.numpy(), wavelet, "periodization", maxlevel=level) for p in x.flatten(0, 1)]
    paths = ["".join(p) for p in itertools.product("ahvd", repeat=level)]
    oracle = np.stack([[t[path].data for path in paths] for t in tree]).reshape(2, -1, 80 >> level, 48 >> level)
    # PyWavelets keeps 12 digits of its filters
    np.testing.assert_allclose(wpt(x, level, wavelet, "periodization").numpy(), oracle, atol=3e-11)


def test_periodization_equals_pywavelets_in_1d_and_3d() -> None:
    x = noise(1, 1, 64)
    tree = pywt.WaveletPacket(x[0, 0].numpy(), "bior4.4", "periodization", maxlevel=3)
    oracle = np.stack([tree["".join(p)].data for p in itertools.product("ad", repeat=3)])
    np.testing.assert_allclose(wpt(x, 3, mode="periodization")[0].numpy(), oracle, atol=3e-11)
    x = noise(1, 1, 8, 16, 24)
    bands = pywt.dwtn(x[0, 0].numpy(), "bior4.4", "periodization")
    order = ["aaa", "daa", "ada", "dda", "aad", "dad", "add", "ddd"]  # the last axis varies slowest
    np.testing.assert_allclose(
        wpt(x, 1, mode="periodization")[0].numpy(), np.stack([bands[k] for k in order]), atol=3e-11
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("shape", "level"),
    [
        ((1, 1, 8), 3), ((2, 2, 264), 3), ((1, 1, 4096), 8), ((1, 3, 8, 8), 3), ((1, 2, 8, 200), 3),
        ((2, 1, 136, 8), 2), ((1, 3, 120, 264), 3), ((1, 1, 16, 24, 8), 2), ((1, 1, 48, 32, 40), 1),
        ((1, 1, 2, 2), 1), ((1, 1, 34, 46), 1), ((1, 1, 128, 144), 4), ((3, 2, 40), 0),
    ],
)  # fmt: skip
def test_equals_reference_and_inverts(shape: tuple[int, ...], level: int, mode: str, dtype: torch.dtype) -> None:
    x = noise(*shape, dtype=dtype)
    X = wpt(x, level, mode=mode)
    ndim = len(shape) - 2
    assert X.shape == (shape[0], shape[1] << (level * ndim), *(n >> level for n in shape[2:]))
    assert X.dtype == dtype
    reference = wpt_reference(x.double(), level, mode=mode)
    assert (X - reference).abs().max() <= 5 * TOLERANCE[dtype]  # relative to packets as large as 5
    assert (iwpt(X, level, mode=mode) - x).abs().max() <= TOLERANCE[dtype]
    assert (iwpt_reference(reference, level, mode=mode) - x).abs().max() <= TOLERANCE[dtype]


@pytest.mark.parametrize("n", range(2, 66, 2))
@pytest.mark.parametrize("mode", MODES)
def test_every_even_size_inverts(n: int, mode: str) -> None:
    x = noise(1, 1, n, 66 - n + 2)
    assert (iwpt(wpt(x, 1, mode=mode), 1, mode=mode) - x).abs().max() <= 1e-12
    y = x.float()
    assert (iwpt(wpt(y, 1, mode=mode), 1, mode=mode) - y).abs().max() <= 2e-6


@pytest.mark.parametrize("mode", MODES)
def test_adjoint(mode: str) -> None:
    """<W x, y> = <x, W' y>, with W' from autograd; the same for the inverse."""
    for forward, shape in ((wpt, (1, 2, 144, 160)), (iwpt, (1, 128, 24, 26))):
        x = noise(*shape).requires_grad_()
        z = forward(x, 3, mode=mode)
        y = noise(*z.shape)
        (adjoint,) = torch.autograd.grad((z * y).sum(), x)
        assert torch.allclose((z * y).sum(), (x * adjoint).sum(), rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_path_equals_compiled_path(mode: str) -> None:
    x = noise(1, 3, 176, 208, dtype=torch.float32)
    compiled, plain = wpt(x, 3, mode=mode), wpt(x.clone().requires_grad_(), 3, mode=mode)
    assert (compiled - plain).abs().max() <= 5e-6
    back, plain_back = iwpt(compiled, 3, mode=mode), iwpt(compiled.clone().requires_grad_(), 3, mode=mode)
    assert (back - plain_back).abs().max() <= 5e-6


def test_coding_first_and_training_after() -> None:
    """Constants are cached: those made in inference mode must not break autograd."""
    for cached in (module._constant, module._axis_map, module._matrix):
        cached.cache_clear()
    with torch.inference_mode():
        wpt(noise(1, 1, 128), 2)
    x = noise(1, 1, 128).requires_grad_()
    wpt(x, 2).square().sum().backward()
    assert x.grad is not None


def test_non_contiguous_input() -> None:
    x = noise(1, 80, 96, 3, dtype=torch.float32).permute(0, 3, 1, 2)
    assert torch.equal(wpt(x, 2), wpt(x.contiguous(), 2))


def test_symmetric_does_not_leak_across_the_picture() -> None:
    x = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    x[..., 0] = 1
    assert wpt(x, 2, mode="symmetric")[..., 12:].abs().max() == 0
    assert wpt(x, 2, mode="periodization")[..., 12:].abs().max() > 0.01


def test_a_part_with_its_reach_equals_the_whole() -> None:
    x = noise(1, 1, 512)
    whole, margin = wpt(x, 3), reach(3)
    part = wpt(x[..., 8 * (20 - margin) : 8 * (30 + margin)], 3)
    assert (part[..., margin:-margin] - whole[..., 20:30]).abs().max() <= 1e-14


def test_constant_signal_has_one_band() -> None:
    X = wpt(torch.ones(1, 1, 64, 64, dtype=torch.float64), 3)
    assert torch.allclose(X[:, 0], torch.full_like(X[:, 0], 8.0))
    assert X[:, 1:].abs().max() < 1e-11  # PyWavelets keeps 12 digits of the filters


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: wpt(torch.zeros(1, 3, 500, 768), 7), r"divisible by 128; x is \(1, 3, 500, 768\)"),
        (lambda: wpt(torch.zeros(1, 3, 0, 9), 1), "divisible by 2"),
        (lambda: iwpt(torch.zeros(1, 3, 8, 8), 1), "multiple of 4 channels"),
        (lambda: wpt(torch.zeros(3, 8), 1), r"found \(3, 8\)"),
        (lambda: wpt(torch.zeros(1, 1, 8, dtype=torch.int32), 1), "found torch.int32"),
        (lambda: wpt(torch.zeros(1, 1, 8), -1), "found -1"),
        (lambda: wpt(torch.zeros(1, 1, 8), 1, "db0"), "found 'db0'"),
        (lambda: wpt(torch.zeros(1, 1, 8), 1, "db4", "symmetric"), "'db4' has 8 and 8 taps"),
    ],
)
def test_errors_say_what_was_found(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()  # type: ignore[operator]


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="found 'wrap'"):
        module._check(torch.zeros(1, 1, 8), 1, "haar", "wrap")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    x = noise(1, 3, 40, 48, dtype=torch.float32).to(dtype)
    X = wpt(x, 3)
    assert torch.equal(X, wpt(x.float(), 3).to(dtype))
    assert torch.equal(iwpt(X, 3), iwpt(X.float(), 3).to(dtype))
    sound = noise(1, 1, 64, dtype=torch.float32).to(dtype).requires_grad_()
    wpt(sound, 2).sum().backward()
    assert sound.grad is not None and sound.grad.dtype == dtype


@pytest.mark.parametrize("shape", [(0, 3, 16, 24), (1, 3, 0, 8), (2, 0, 8, 8), (0, 2, 64), (1, 1, 0)])
def test_of_nothing_comes_nothing(shape: tuple[int, ...]) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.zeros(shape, dtype=dtype, requires_grad=True)
        X = wpt(x, 2)
        assert X.shape == (shape[0], shape[1] << (2 * (len(shape) - 2)), *(n >> 2 for n in shape[2:]))
        assert iwpt(X, 2).shape == shape and X.dtype == dtype
        X.sum().backward()
        assert x.grad is not None and x.grad.shape == shape
