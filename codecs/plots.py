"""Plots: rate-distortion curves and the rates of a benchmark, for print, PNG and SVG."""

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
