from __future__ import annotations

import pytest
import torch
from codomain.kernels.analysis import INTEGERS, analyse, analyse_reference, limits, round_to, takes

MODES = ["symmetric", "periodization"]


def projection(channels: int, level: int, d: int = 7, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(d, channels << (2 * level)) * scale, torch.randn(d)


def samples(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    if dtype == torch.float32:
        return torch.rand(*shape) * 2 - 1
    return torch.randint(0, 256 if dtype == torch.uint8 else 65536, shape, dtype=torch.int32).to(dtype)


def assert_rounds(ours: torch.Tensor, x: torch.Tensor, *rest: object, mode: str = "symmetric") -> None:
    """Equal to the float64 definition, but for numbers that float32 cannot tell from a tie."""
    exact = analyse_reference(x, *rest, mode=mode)  # type: ignore[arg-type]
    assert ours.shape == exact.shape
    assert (ours - exact).abs().max() <= 1
    assert (ours != exact).float().mean() <= 2e-4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (2, 1, 61, 203), (1, 2, 1, 1), (1, 3, 300, 451), (3, 5, 8, 40)])
def test_equals_the_definition(shape: tuple[int, ...], level: int, mode: str) -> None:
    x, (weight, bias) = samples(*shape), projection(shape[1], level)
    assert_rounds(analyse(x, weight, bias, level, mode=mode), x, weight, bias, level, mode=mode)


@pytest.mark.parametrize("d", [1, 6, 12, 48, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16], ids=str)
def test_samples_and_latent_counts(dtype: torch.dtype, d: int) -> None:
    x, (weight, bias) = samples(1, 3, 83, 124, dtype=dtype), projection(3, 3, d)
    assert_rounds(analyse(x, weight, bias, 3), x, weight, bias, 3)


def test_interleaved_colours_and_other_views() -> None:
    weight, bias = projection(3, 3)
    x = samples(1, 120, 168, 3).permute(0, 3, 1, 2)
    expected = analyse(x.contiguous(), weight, bias, 3)
    assert torch.equal(analyse(x, weight, bias, 3), expected)
    wide = samples(1, 3, 120, 336)
    assert torch.equal(analyse(wide[..., ::2], weight, bias, 3), analyse(wide[..., ::2].contiguous(), weight, bias, 3))
    assert torch.equal(analyse(x.flip(2), weight, bias, 3), analyse(x.flip(2).contiguous(), weight, bias, 3))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_saturates(dtype: torch.dtype) -> None:
    """Ten decades of latents: small ones round, large ones end at the limits of the type."""
    x = samples(1, 1, 64, 64)
    weight, bias = projection(1, 2, 10)
    weight *= 10.0 ** torch.arange(10.0)[:, None]
    ours, exact = (f(x, weight, bias, 2, dtype=dtype) for f in (analyse, analyse_reference))
    assert ours.dtype == dtype
    assert limits(dtype) == (ours.min(), ours.max()) == (exact.min(), exact.max())
    bound = 1 + 1e-6 * weight.abs().sum(1)[:, None, None]  # float32 keeps 24 bits of the terms
    assert ((ours.double() - exact.double()).abs() <= bound).all()


def test_ties_go_to_the_even_integer() -> None:
    y = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert round_to(y).tolist() == [-2, -2, 0, 0, 2, 2]
    weight, x = torch.zeros(6, 4), samples(1, 1, 4, 4)
    assert analyse(x, weight, y, 1)[0, :, 0, 0].tolist() == [-2, -2, 0, 0, 2, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_signal_that_is_not_finite(value: float) -> None:
    x = samples(1, 3, 64, 64, dtype=torch.float32)
    x[0, 1, 40, 40] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        analyse(x, *projection(3, 3), 3)


def test_what_is_not_compiled_follows_the_definition() -> None:
    x, (weight, bias) = samples(1, 1, 40, 40), projection(1, 1)
    assert not takes(x, 12, 1, "bior2.2")
    assert torch.equal(analyse(x, weight, bias, 1, "bior2.2"), analyse_reference(x, weight, bias, 1, "bior2.2"))
    x, (weight, bias) = samples(1, 3, 5, 6), projection(3, 0)
    assert torch.equal(analyse(x, weight, bias, 0), analyse_reference(x, weight, bias, 0))


def test_memory_of_a_large_picture() -> None:
    """24 megapixels at 16x to int8: below 64 MB more than before, in a process of its own."""
    import subprocess
    import sys

    code = (
        "import resource, torch\n"
        "from codomain.kernels.analysis import analyse\n"
        "torch.set_num_threads(2)\n"
        "x, w, b = torch.zeros(1, 3, 4000, 6000, dtype=torch.uint8), torch.randn(12, 192), torch.randn(12)\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "x += 7\n"
        "analyse(x[..., :64, :64].contiguous(), w, b, 3, dtype=torch.int8)\n"
        "before = peak()\n"
        "analyse(x, w, b, 3, dtype=torch.int8)\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 <= 64


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": torch.zeros(1, 3, 8, 8, dtype=torch.float64)}, "found torch.float64"),
        ({"x": torch.zeros(1, 0, 8, 8)}, r"one channel or more; found \(1, 0, 8, 8\)"),
        ({"weight": torch.zeros(7, 11)}, r"weight \(d, 12\).*found \(7, 11\)"),
        ({"dtype": torch.uint8}, "found torch.uint8"),
        ({"level": -1}, "found -1"),
    ],
)
def test_errors_say_what_was_found(change: dict[str, object], says: str) -> None:
    given: dict[str, object] = {"x": torch.zeros(1, 3, 8, 8), "weight": torch.zeros(7, 12), "bias": torch.zeros(7)}
    with pytest.raises(ValueError, match=says):
        analyse(**{**given, "level": 1, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(0, 3, 16, 20), (2, 3, 0, 12)])
def test_of_nothing_comes_nothing(shape: tuple[int, ...]) -> None:
    y = analyse(torch.zeros(shape), torch.zeros(5, 48), torch.zeros(5), 2, dtype=torch.int8)
    assert y.shape == (shape[0], 5, shape[2] // 4, shape[3] // 4) and y.dtype == torch.int8
