"""Video files: films on disk <-> `.cdm` files; memory holds one segment of a clip, whatever its length."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from codomain.codecs import bitstream, media
from codomain.codecs.bitstream import AUDIO, DISPLAY, File
from codomain.codecs.checkpoint import SUFFIX, Checkpoint
from codomain.codecs.encoding import DEFAULT_SECONDS, Encoding, Settings
from codomain.codecs.fit import Fit, Fitting, Layout
from codomain.codecs.load import load, name_of
from codomain.codecs.nerv import VideoNetwork
from codomain.codecs.nerv_codec import NervCodec
from codomain.codecs.progress import Bar
from codomain.codecs.segments import Plan, Segment, cuts_from, plan_of, thumbnails
from codomain.codecs.target import Target
from codomain.codecs.video import Clip, Form, open_clip, read_display, write_display
from codomain.codecs.weight_bottleneck import Quantized, read_quantized
from jaxtyping import Bool, UInt8
from torch import Tensor

SECTION = 16  # bytes that a section needs beside its content, at most
LOOKED_AT = 64  # frames at a time
AHEAD = 8  # frames that wait to be written


@dataclass(frozen=True)
class Wanted:
    """What a user asks of a video file.

    Attributes:
        quality: 1 to 100.
        target: size in place of a quality, of the whole file.
        seconds: that the fits take in all.
        scale: of the sides.
        seed: of the networks.
        mask: path of a picture; what is white in it counts, what is black is not coded.
    """

    quality: float | None = None
    target: Target | None = None
    seconds: float = DEFAULT_SECONDS
    scale: Fraction = Fraction(1)
    seed: int = 0
    mask: Path | None = None


@dataclass(frozen=True)
class Coded:
    """A video file.

    Attributes:
        data: its bytes.
        form: of the film in it.
        quality: None where a size was asked for.
        notes: what was changed or left out.
        lacking: frames that an interrupted encoding has not reached.
        interrupted: whether it was.
        checkpoint: its state, where it lies beside the target: to be removed once the file is written, and whole.
    """

    data: bytes
    form: Form
    quality: float | None
    notes: list[str]
    lacking: int
    interrupted: bool
    checkpoint: Checkpoint | None


def encode_video(
    source: Path | bytes, codec: NervCodec, wanted: Wanted, bar: Bar, target: Path | None = None, anew: bool = False
) -> Coded:
    """Return the `.cdm` file of a film.

    An interrupt ends it early, with a file of the frames that are fitted; where ``target`` is given, the state lies
    beside it, so that the same call goes on, until the caller has written the file and removes it.

    Args:
        source: a file, its bytes, or a folder of PNG files.
        codec: to code with.
        wanted: see `Wanted`.
        bar: told how far it is.
        target: of the file that the caller will write.
        anew: whether the state of another encoding may be replaced.

    Raises:
        ValueError: if it is no film that we can hold, or the size is too small.
        KeyboardInterrupt: if it is interrupted before a frame is fitted.
    """
    clip = open_clip(source, wanted.scale)
    form = clip.form
    shape = (form.frames, form.height, form.width)
    display = write_display(form)
    sections = {tag: body for tag, body in ((AUDIO, clip.audio), (DISPLAY, display)) if body}
    index = codec.quality_index(wanted.quality) if wanted.target is None else 0
    n_bytes = codec.settings(shape, wanted.quality).n_bytes
    if wanted.target is not None:
        others = sum(len(body) + SECTION for body in sections.values())
        n_bytes = _size(wanted.target, form) - others
        if n_bytes <= 0:
            raise ValueError(f"{n_bytes + others} bytes are too few: sound and the like alone need {others}")
    mask = None if wanted.mask is None else read_mask(wanted.mask, form)
    settings = Settings(n_bytes, wanted.seconds, seed=wanted.seed)
    codec.architecture(form.height, form.width, 1, n_bytes)  # far too few bytes fail before the frames are looked at
    cuts, digest = _look(clip, codec.segment)
    encoding = Encoding(codec, shape, settings, cuts)
    checkpoint = None
    if target is not None:
        shown = "" if mask is None else hashlib.sha256(mask.numpy().tobytes()).hexdigest()
        key = {"source": digest, "model": codec.digest.hex(), "size": n_bytes, "time": wanted.seconds,
               "seed": wanted.seed, "mask": shown}  # fmt: skip
        checkpoint = Checkpoint(target.with_name(target.name + SUFFIX), key)
        try:
            checkpoint.load(encoding)
        except ValueError:
            if not anew:
                raise
    whole = _fit_all(encoding, clip, mask, bar, checkpoint)
    data = encoding.finish(form.rate, index, sections)
    frames = sum(segment.frames for segment in encoding.plan.segments[: len(encoding.chunks)])
    quality = index / 4 if index else None
    return Coded(data, replace(form, frames=frames), quality, clip.notes, form.frames - frames, not whole, checkpoint)


def _fit_all(
    encoding: Encoding, clip: Clip, mask: Bool[Tensor, "h w"] | None, bar: Bar, checkpoint: Checkpoint | None
) -> bool:
    """Fit the segments that are left; return False if an interrupt ended it."""
    fit: Fit | None = None
    segments = encoding.plan.segments
    try:
        for segment in segments[len(encoding.done) :]:
            x = _pixels(clip, segment)
            masks = None if mask is None else mask.expand(len(x), -1, -1)
            fit = encoding.start(segment, x, masks)
            if checkpoint is not None:
                checkpoint.resume(fit)
            running = fit

            def watch(state: Fitting, running: Fit = running) -> None:
                _tell(bar, encoding, state)
                if checkpoint is not None and checkpoint.is_due:
                    checkpoint.save(encoding, running)

            fit.run(watch)
            encoding.add(segment, fit)
            fit = None
            if checkpoint is not None:
                checkpoint.save(encoding)
    except KeyboardInterrupt:
        started = fit is not None and fit.state.steps > 0 and len(encoding.done) < len(segments)
        if checkpoint is not None and (started or encoding.done):
            checkpoint.save(encoding, fit if started else None)
        if started:
            assert fit is not None
            fit.state.done = max(fit.state.done, fit.recipe.rate_by)  # bits count from now on
            try:
                encoding.add(segments[len(encoding.done)], fit)
            except ValueError:  # so early that it cannot be made small: the segments before it remain
                pass
        if not encoding.done:
            raise
        return False
    return True


def _look(clip: Clip, most: int) -> tuple[list[int], str]:
    """Return the first frames of segments, and a digest of all frames."""
    digest, small, held = hashlib.sha256(), [], []
    for i, frame in enumerate(clip.frames(), 1):
        digest.update(frame.tobytes())
        held.append(torch.from_numpy(frame).permute(2, 0, 1))
        if len(held) == LOOKED_AT or i == clip.form.frames:
            small.append(thumbnails(torch.stack(held)))
            held = []
    return cuts_from(torch.cat(small), most), digest.hexdigest()


def _pixels(clip: Clip, segment: Segment) -> UInt8[Tensor, "f 3 h w"]:
    x = torch.empty(segment.frames, 3, clip.form.height, clip.form.width, dtype=torch.uint8)
    for i, frame in enumerate(clip.frames(segment.start, segment.start + segment.frames)):
        x[i] = torch.from_numpy(frame).permute(2, 0, 1)
    return x


def _tell(bar: Bar, encoding: Encoding, state: Fitting) -> None:
    """Show the share that is done, PSNR, bytes and the time that is left."""
    seconds = [part or 0.0 for part in encoding.seconds]
    total, i = sum(seconds), len(encoding.done)
    spent = sum(seconds[:i]) + state.done * seconds[i]
    n_bytes = sum(map(len, encoding.chunks)) + state.bits / 8
    bar.tell(spent / total, f"{spent / total:.0%}, {state.psnr:.2f} dB, {n_bytes / 1000:.1f} kB, "
             f"{total - spent:.0f} s left")  # fmt: skip


def _size(target: Target, form: Form) -> int:
    if target.what == "psnr":
        raise ValueError("videos have no target in psnr")
    per = {
        "bytes": 1.0,
        "bpp": form.width * form.height * form.frames / 8,
        "kbps": 125 * form.frames / float(form.rate),
    }
    return int(target.value * per[target.what])


def read_mask(path: Path, form: Form) -> Bool[Tensor, "h w"]:
    """Return which pixels of a clip count: those that are nearer to white than to black.

    Raises:
        ValueError: if the picture is none, of another size than the frames, or all black.
    """
    picture = media.read_image(path.read_bytes())
    height, width = picture.pixels.shape[1:]
    if (height, width) != (form.height, form.width):
        raise ValueError(f"{path} is {width} x {height}; the frames are {form.width} x {form.height}")
    mask = picture.pixels.float().mean(0) >= 1 << (picture.depth - 1)
    if not mask.any():
        raise ValueError(f"{path} is black: nothing would be coded")
    return mask


@dataclass(frozen=True)
class Span:
    """Which frames are decoded.

    Attributes:
        first, stop: numbers of frames, or None for the ends.
        start_s, stop_s: the same in seconds.
        rate: frames per second that are made, between those of the file; None for the file's.
    """

    first: int | None = None
    stop: int | None = None
    start_s: float | None = None
    stop_s: float | None = None
    rate: Fraction | None = None

    def times(self, n: int, rate: Fraction) -> list[float]:
        """Return times in frames of a clip of ``n``.

        Raises:
            ValueError: for frames that it does not have.
        """
        first = self.first if self.start_s is None else round(self.start_s * rate)
        stop = self.stop if self.stop_s is None else round(self.stop_s * rate)
        first, stop = 0 if first is None else first, n if stop is None else stop
        if not 0 <= first < stop <= n:
            raise ValueError(f"expected frames within 0:{n}, at {float(rate):g} a second; found {first}:{stop}")
        if self.rate is None:
            return [float(i) for i in range(first, stop)]
        step = rate / self.rate
        count = max(1, round((stop - first) / step))
        return [float(min(Fraction(stop - 1), first + i * step)) for i in range(count)]


@dataclass(frozen=True)
class Decoded:
    """What is decoded of a video file: its frames come one by one.

    Attributes:
        file: parsed; without the chunks that are not needed.
        form: of what is decoded.
        audio: packets, where all of the film is decoded.
        frames: (h, w, 3), uint8.
    """

    file: File
    form: Form
    audio: bytes | None
    frames: Iterator[np.ndarray]


def decode_video(data: bytes | memoryview, span: Span, salvage: bool = False) -> Decoded:
    """Return what a span of a video file decodes to; only the segments that it needs are read.

    Raises:
        BitstreamError: at once, or from the frames, if the bytes are damaged.
        ValueError: for frames that the clip does not have.
    """
    header = bitstream.read_header(data)
    codec = load(name_of(header.model))
    assert isinstance(codec, NervCodec)
    codec.check_header(header)
    width, height, n = header.shape[:3]
    rate = Fraction(*header.shape[3:])
    times = span.times(n, rate)
    plan = plan_of(bitstream.read(data, salvage, {0}))
    file = bitstream.read(data, salvage, {0, *(i + 1 for i in _needed(plan, times))})
    form = Form(width, height, len(times), span.rate or rate)
    if DISPLAY in file.sections:
        form = read_display(file.sections[DISPLAY], form)
    whole = len(times) == max(1, round(n / (rate / form.rate)))
    audio = bytes(file.sections[AUDIO]) if whole and AUDIO in file.sections else None
    return Decoded(file, form, audio, _ahead(codec.frames(file, times, salvage)))


def _ahead(frames: Iterator[Tensor]) -> Iterator[np.ndarray]:
    """Yield frames as pixels, while a thread decodes those that follow: what writes them is as slow."""
    pool = ThreadPoolExecutor(1)
    try:
        waiting = deque(pool.submit(next, frames, None) for _ in range(AHEAD))
        while (frame := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, frames, None))
            yield frame.permute(1, 2, 0).contiguous().cpu().numpy()
    finally:
        pool.shutdown(cancel_futures=True)


def _needed(plan: Plan, times: Sequence[float]) -> set[int]:
    """Return the segments of times, and those that they are chained to."""
    starts = np.array([segment.start for segment in plan.segments])
    needed: set[int] = set()
    for i in set((np.searchsorted(starts, times, "right") - 1).tolist()):
        while i not in needed:
            needed.add(i)
            i -= plan.segments[i].chained
    return needed


def check_integers(file: File) -> None:
    """Decode the integers of all segments.

    Raises:
        BitstreamError: if they are damaged.
    """
    plan = plan_of(file)
    before: Quantized | None = None
    for segment, chunk in zip(plan.segments, file.chunks[1:], strict=True):
        assert chunk is not None
        with torch.device("meta"):
            sizes = Layout(VideoNetwork(plan.architecture, segment.counted)).sizes
        before = read_quantized(chunk, sizes, before if segment.chained else None)
