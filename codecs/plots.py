"""Plots: rate-distortion curves for print, PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from codomain.codecs.metrics import decibels
from codomain.codecs.results import TITLES, curves

# Okabe and Ito's colours, distinct for colour-blind readers; ours first
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


def rate_distortion(points: Sequence[dict[str, Any]], metric: str, title: str, format: str) -> bytes:
    """Return a plot of one metric over bits per pixel, a curve per name.

    Args:
        points: of `results.means`.
        metric: its key; all but PSNR are drawn as -10 log10(1 - value).
        title: above the plot.
        format: "png" or "svg"; the same points give the same bytes.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "codomain", "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(7, 4.6), layout="constrained")
        # a lone point is no curve: a star
        for colour, (name, curve) in zip(COLOURS * len(points), curves(points).items(), strict=False):
            known = [(p["bpp"], decibels(metric, p[metric])) for p in curve if p.get(metric) is not None]
            if known:
                marker, size = ("*", 12) if len(known) == 1 else ("o", 4)
                axes.plot(*zip(*known, strict=True), marker=marker, markersize=size, color=colour, label=name)
        label = TITLES[metric] if metric.startswith("psnr") else f"{TITLES[metric]}, dB"
        axes.set(xlabel="bits per pixel, whole files", ylabel=label, title=title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        out = io.BytesIO()
        figure.savefig(out, format=format, dpi=150, metadata={"Date": None} if format == "svg" else {"Software": None})
        pyplot.close(figure)
    return out.getvalue()
