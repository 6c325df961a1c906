"""Plots: rate-distortion curves and the rates of a benchmark, for print, PNG and SVG; spectrograms."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from codomain.codecs.kind import Kind, Row
from codomain.codecs.results import curves
from jaxtyping import Float32

# Okabe and Ito's colours, distinct for colour-blind readers; ours first
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


SPECTROGRAM = (640, 256)  # width and height at most
SPECTROGRAM_DB = (-90.0, 0.0)  # darkest and brightest: 0 dB is a sine of full scale


def rate_distortion(kind: Kind, points: Sequence[Row], metric: str, title: str, format: str) -> bytes:
    """Return a plot of one metric over the rate, a curve per name.

    Args:
        kind: of the signals.
        points: of `results.means`.
        metric: its key; it is drawn as its `quality`.
        title: above the plot.
        format: "png" or "svg"; the same points give the same bytes.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rate, drawn = kind.rate.key, kind.metric(metric)
    with matplotlib.rc_context({"svg.hashsalt": "codomain", "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(7, 4.6), layout="constrained")
        # a lone point is no curve: a star
        for colour, (name, curve) in zip(COLOURS * len(points), curves(kind, points).items(), strict=False):
            known = [(p[rate], drawn.quality(p[metric])) for p in curve if p.get(metric) is not None]
            if known:
                marker, size = ("*", 12) if len(known) == 1 else ("o", 4)
                axes.plot(*zip(*known, strict=True), marker=marker, markersize=size, color=colour, label=name)
        axes.set(xlabel=f"{kind.rate_axis}, whole files", ylabel=drawn.axis, title=title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        out = io.BytesIO()
        figure.savefig(out, format=format, dpi=150, metadata={"Date": None} if format == "svg" else {"Software": None})
        pyplot.close(figure)
    return out.getvalue()


def rates(rows: Sequence[dict[str, Any]], title: str) -> bytes:
    """Return a PNG of bars: the rate of every library, a panel per operation, and where the floor of ours lies.

    Args:
        rows: of `bench.bench`; all of one subject.
        title: above the plot.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        panels.setdefault(row["operation"], []).append(row)
    heights = [len(panel) + 1.2 for panel in panels.values()]
    with matplotlib.rc_context({"font.size": 9}):
        figure, grid = pyplot.subplots(
            len(panels), figsize=(8, 0.3 * sum(heights) + 1), height_ratios=heights, squeeze=False, layout="constrained"
        )
        for axes, (operation, panel) in zip(grid[:, 0], panels.items(), strict=True):
            for place, row in enumerate(panel):
                axes.barh(place, row["rate"], color=COLOURS[0 if row["library"].startswith("codomain") else 1])
                axes.annotate(f" {row['rate']:.3g}", (row["rate"], place), va="center", clip_on=False)
                if "share" in row:
                    axes.plot([row["rate"] / row["share"]] * 2, [place - 0.45, place + 0.45], color=COLOURS[6], lw=2)
            best = max(row["rate"] / row.get("share", 1) for row in panel)
            axes.set(
                xscale="log", xlim=(min(row["rate"] for row in panel) / 3, 3 * best), ylim=(len(panel) - 0.4, -0.6)
            )
            axes.set_yticks(range(len(panel)), [row["library"] for row in panel])
            axes.set_title(operation, loc="left", fontsize=9)
            axes.set_xlabel(panel[0]["unit"])
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(f"{title}\nblack line: the floor")
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
        pyplot.close(figure)
    return out.getvalue()


def spectrogram(x: Float32[np.ndarray, "c t"], sample_rate: int) -> bytes:
    """Return a WebP of the power of the channels' mean in dB: time to the right, 0 Hz to half the sample rate upwards.

    Frames of 32 ms under a Hann window; columns and rows are means of power, so that nothing narrow is lost.
    """
    from matplotlib import colormaps
    from PIL import Image

    window = 1 << round(np.log2(0.032 * sample_rate))
    width, height = SPECTROGRAM
    mono = x.mean(0, dtype=np.float64)
    mono = np.pad(mono, (window // 2, window // 2 + max(0, window - len(mono))))
    starts = np.arange(0, len(mono) - window + 1, max(1, ceil((len(mono) - window) / (2 * width))))
    frames = np.lib.stride_tricks.sliding_window_view(mono, window)[starts] * np.hanning(window)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1)) / (window / 4)).T[::-1]  # highest frequency first
    for axis, most in ((0, height), (1, width)):
        n = min(most, power.shape[axis])
        edges = np.arange(n) * power.shape[axis] // n
        power = np.add.reduceat(power, edges, axis) / np.diff(edges, append=power.shape[axis]).reshape(
            (-1, 1) if axis == 0 else (1, -1)
        )
    low, high = SPECTROGRAM_DB
    level = (10 * np.log10(np.maximum(power, 1e-12)) - low) / (high - low)
    out = io.BytesIO()
    Image.fromarray(colormaps["magma"](level.clip(0, 1), bytes=True)[..., :3]).save(out, "WEBP", quality=80, method=4)
    return out.getvalue()
