"""Report: one HTML file that needs nothing else: curves, a sortable table, and every picture beside its original.

The page is ``report.html``; here its data are gathered. A file that browsers decode (JPEG, WebP, AVIF) is shown as it
is; what they do not know is decoded here and shown as lossless WebP, or at quality `FALLBACK` where the page would grow
past `BUDGET`.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import log
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from codomain.codecs.baselines import SCALES, Baseline
from codomain.codecs.contenders import Contender, Ours, label, parse, read_picture
from codomain.codecs.metrics import decibels, psnr
from codomain.codecs.results import COMPARED, METRICS, SPEEDS, TITLES, Row, show, show_percent
from codomain.codecs.sweep import Picture, Store
from PIL import Image

BUDGET = 56_000_000  # bytes of the page
FALLBACK = 95  # WebP's quality
PICTURES = 24  # shown at most
NEAR = 0.01  # of the bytes: a baseline's file that is this near needs no further search
BROWSERS = {".jpg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif"}
Shown = dict[str, Any]


def gather(
    contenders: Sequence[Contender],
    pictures: Sequence[Picture],
    store: Store,
    jobs: int,
    advance: Callable[[str], None],
) -> list[Shown]:
    """Return what the page shows of up to `PICTURES` pictures: the original, our models at the middle one of their
    qualities, and, for each of these, every baseline at the quality whose file is nearest in bytes. Without a model of
    ours, the contenders as they are.
    """
    pictures = (
        [pictures[i * len(pictures) // PICTURES] for i in range(PICTURES)] if len(pictures) > PICTURES else pictures
    )
    ours = []
    for name in dict.fromkeys(c.name for c in contenders if isinstance(c, Ours)):
        same = sorted((c for c in contenders if c.name == name), key=lambda c: c.quality or 0)
        ours.append(same[len(same) // 2])
    others = [c for c in contenders if not isinstance(c, Ours)]
    rivals = list(dict.fromkeys(c.name for c in others if isinstance(c, Baseline))) if ours else []
    fixed = ours or others
    swept = [c for c in others if ours and not isinstance(c, Baseline)]
    shown = []
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = []
        for picture in pictures:
            rows = [store.find(c, picture) for c in (*fixed, *swept)]
            files = [(row["model"], store.folder / row["file"]) for row in rows if row is not None]
            known = {label(c): store.find(c, picture) for c in others if isinstance(c, Baseline)}
            sizes = {name: row["n_bytes"] for name, row in known.items() if row is not None}
            futures.append(pool.submit(_show, picture, files, rivals, sizes))
        for future in futures:
            shown.append(future.result())
            advance("pictures")
    return shown


def match(name: str, x: np.ndarray, n_bytes: int, sizes: dict[int, int]) -> tuple[int, bytes]:
    """Return the quality of a baseline whose file is nearest to ``n_bytes``, and that file.

    Args:
        name: of the baseline.
        x: (h, w, 3) uint8.
        n_bytes: the target.
        sizes: quality -> bytes, as far as known; filled by the search.
    """
    scale = SCALES[name][0]
    files: dict[int, bytes] = {}

    def size(quality: int) -> int:
        if quality not in sizes:
            files[quality] = Baseline(name, quality).compress(x)
            sizes[quality] = len(files[quality])
        return sizes[quality]

    low, high = scale[0], scale[-1]
    for quality, known in sizes.items():  # the nearest known qualities on either side
        low, high = (max(low, quality), high) if known <= n_bytes else (low, min(high, quality))
    while high - low > 1 and min(abs(size(low) - n_bytes), abs(size(high) - n_bytes)) > NEAR * n_bytes:
        below, above = size(low), size(high)
        share = log(n_bytes / below) / log(above / below) if below < n_bytes < above else 0.5
        middle = min(high - 1, max(low + 1, round(low + share * (high - low))))
        low, high = (middle, high) if size(middle) <= n_bytes else (low, middle)
    best = min((low, high), key=lambda quality: abs(size(quality) - n_bytes))
    return best, files.get(best) or Baseline(name, best).compress(x)


def page(
    title: str, points: Sequence[Row], compared: Sequence[Row], notes: Sequence[str], shown: Sequence[Shown]
) -> str:
    """Return the page.

    Args:
        title: of the evaluation.
        points: of `results.means`, with speeds where they were measured.
        compared: of `results.compare`.
        notes: lines about how and on what; what was left out.
        shown: of `gather`.
    """
    columns = ["images", *(c for c in ("bpp", *METRICS) if any(p.get(c) is not None for p in points)),
               *(c for c in SPEEDS if any(p.get(c) is not None for p in points))]  # fmt: skip
    data = {
        "metrics": [{"key": m, "title": TITLES[m] if m == "psnr" else f"{TITLES[m]}, dB"} for m in COMPARED
                    if any(p.get(m) is not None for p in points)],
        "points": [{"model": p["model"], "name": p["name"], "bpp": p["bpp"],
                    **{m: decibels(m, p[m]) for m in COMPARED if p.get(m) is not None}} for p in points],
    }  # fmt: skip
    cells = [[p["model"], *(p.get(c) for c in columns)] for p in points]
    body = {
        "title": html.escape(title),
        "notes": "".join(f"<li>{html.escape(note)}</li>" for note in notes),
        "head": "".join(f"<th>{html.escape(TITLES.get(c, c))}</th>" for c in ("codec", *columns)),
        "rows": "".join(
            "<tr>" + "".join(
                f'<td data-value="{html.escape(str(-1 if v is None else v))}">{html.escape(show(c, v))}</td>'
                for c, v in zip(("codec", *columns), row, strict=True)
            ) + "</tr>" for row in cells
        ),
        "compared": "".join(
            f"<tr><td>{html.escape(r['name'])}</td><td>{html.escape(r['anchor'])}</td><td>{TITLES[r['metric']]}</td>"
            f"<td>{show_percent(r['percent'])}</td><td>{r['method']}</td><td>{html.escape(r.get('note', ''))}</td></tr>"
            for r in compared
        ),
        "data": _embed(data),
        "pictures": "".join(
            f'<script type="application/json" class="picture">{_embed(picture)}</script>\n'
            for picture in _fitted(shown)
        ),
    }  # fmt: skip
    text = Path(__file__).with_name("report.html").read_text()
    return re.sub(r"<!--(\w+)-->", lambda mark: body[mark[1]], text)  # in one pass: no content is searched


def _show(picture: Picture, files: list[tuple[str, Path]], rivals: list[str], sizes: dict[str, int]) -> Shown:
    """Everything of one picture; runs in a process of its own."""
    x = read_picture(picture.path)
    images = [_image("original", x, x, None, "")]
    for name, path in files:
        data = path.read_bytes()
        x_hat = parse(name).decompress(data).clip(0, 255).round().astype(np.uint8)
        images.append(_image(name, x, x_hat, data, path.suffix))
        for rival in rivals if path.suffix == ".cdm" else []:
            known = {int(key.partition(":")[2]): n for key, n in sizes.items() if key.partition(":")[0] == rival}
            quality, coded = match(rival, x, len(data), known)
            codec = Baseline(rival, quality)
            image = _image(f"{label(codec)} at the bytes of {name}", x, codec.decompress(coded), coded, codec.suffix)
            images.append(image | {"off": round(100 * (len(coded) / len(data) - 1), 1)})
    return {"name": picture.name, "width": x.shape[1], "height": x.shape[0], "images": images}


def _image(name: str, x: np.ndarray, x_hat: np.ndarray, data: bytes | None, suffix: str) -> Shown:
    shown: Shown = {"label": name}
    if data is not None:
        shown |= {"n_bytes": len(data), "bpp": round(8 * len(data) / x[..., 0].size, 4)}
        quality = psnr(x, x_hat, 255.0)
        shown["psnr"] = None if quality == float("inf") else round(quality, 3)  # JSON knows no infinity
    if data is not None and suffix in BROWSERS:
        return shown | {"src": _uri(BROWSERS[suffix], data), "lossless": True, "decoded": False}
    return shown | {"src": _webp(x_hat, lossless=True, quality=20, method=1), "lossless": True, "decoded": True}


def _fitted(shown: Sequence[Shown]) -> Sequence[Shown]:
    """The pictures as embedded: where the page would be too large, decoded pixels are coded again, and said to be.

    Baselines first, ours last; originals stay.
    """
    total = sum(len(image["src"]) for picture in shown for image in picture["images"])
    decoded = [i for p in shown for i in p["images"][1:] if i["src"].startswith("data:image/webp") and i["decoded"]]
    for image in sorted(decoded, key=lambda image: "off" not in image):
        if total < BUDGET:
            break
        data = base64.b64decode(image["src"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as opened:
            again = _webp(np.asarray(opened.convert("RGB")), quality=FALLBACK, method=4)
        total += len(again) - len(image["src"])
        image |= {"src": again, "lossless": False}
    return shown


def _webp(x: np.ndarray, **options: Any) -> str:
    out = io.BytesIO()
    Image.fromarray(x).save(out, "WEBP", **options)
    return _uri("image/webp", out.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _embed(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
