"""Timing: when frames are shown -> a constant rate, and which frame is shown at each of its ticks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Float64, Int64, Real

USUAL = (
    *(Fraction(n, 1001) for n in (24_000, 30_000, 60_000, 120_000)),
    *(Fraction(n) for n in (5, 8, 10, 12, 15, 24, 25, 30, 48, 50, 60, 90, 120, 240)),
)
DEFAULT = Fraction(25)  # of what has no rate: a folder of pictures, a single frame
FASTEST = 100_000  # frames per second
NEAR = Fraction(1, 50)  # a variable rate is called by the usual one that is so near to its average


def constant(
    times: Sequence[int | None], time_base: Fraction, last: int, announced: Sequence[Fraction | None]
) -> tuple[Fraction, Int64[np.ndarray, " n"], str]:
    """Return a constant rate, the frame at each of its ticks, and what that changes, if anything.

    Frames that are never half a frame away from a rate that the file announces have that rate: times are rounded in
    many files, to milliseconds in Matroska. Where frames lie on such a rate's ticks but leave some out, the one before
    is repeated. Others are shown at the usual rate near their average, or at the average.

    Args:
        times: of every frame, in order, in units of ``time_base``; None where the file has none.
        time_base: seconds.
        last: how long the last frame is shown; 0 where that is not known.
        announced: rates that the file gives, the best first.

    Raises:
        ValueError: if the frames lie too far apart.
    """
    n, rates = len(times), [rate for rate in announced if rate is not None and 0 < rate <= FASTEST]
    first, end = times[0], times[-1]
    if first is None or end is None or None in times or end <= first:
        return (rates or [DEFAULT])[0], np.arange(n), ""
    shown = np.maximum.accumulate(np.array(times, np.float64) - first) * float(time_base)
    span, tick = (end - first) * time_base, 1.001 * float(time_base)
    average = (n - 1) / span
    near = sorted((rate for rate in USUAL if abs(rate / average - 1) < NEAR), key=lambda rate: abs(rate - average))
    known = [rate for rate in (*rates, *near, average.limit_denominator(1001)) if rate > 0]
    errors = [_error(shown, rate, np.arange(n)) for rate in known]
    within_a_tick = [rate for rate, error in zip(known, errors, strict=True) if error <= tick]
    within_a_half = [rate for error, rate in sorted(zip(errors, (*rates, *near), strict=False)) if error * rate < 0.5]
    if within_a_tick or within_a_half:
        return (within_a_tick or within_a_half)[0], np.arange(n), ""
    for rate in rates:
        ticks = np.rint(shown * float(rate))
        if ticks[-1] < 2 * n and (np.diff(ticks) > 0).all() and _error(shown, rate, ticks) <= tick:
            order = np.searchsorted(ticks, np.arange(int(ticks[-1]) + 1), "right") - 1
            return rate, order, f"{len(order) - n} missing frames: the one before is repeated"
    rate = near[0] if near else max(average.limit_denominator(1001), Fraction(1, 1001))
    seconds = span + (last * time_base if last > 0 else 1 / average)
    n_ticks = max(1, round(seconds * rate))
    if n_ticks > 2 * n + 2:  # the average is slower than any rate that we take
        raise ValueError(f"its frames are spread over {float(seconds):.0f} s")
    order = np.maximum(np.searchsorted(shown, (np.arange(n_ticks) + 0.5) / float(rate)) - 1, 0)
    return rate, order, f"variable frame rate: resampled to {rate.numerator}/{rate.denominator}"


def _error(shown: Float64[np.ndarray, " n"], rate: Fraction, ticks: Real[np.ndarray, " n"]) -> float:
    """Return how far from its tick of a rate the farthest frame is, in seconds; the first is at 0."""
    return float(np.abs(shown - ticks / float(rate)).max())
