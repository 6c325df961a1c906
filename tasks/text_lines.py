"""Text lines: small type drawn on the fly from the fonts of this machine, with the marks of a scan.

    words --face, size--> ink --skew, blur--> on paper --noise--> pixels | shrunk pixels | latents of 4x, as files hold

Nothing is read but fonts, and nothing is drawn twice: a seed tells what the words are, and how they look. Some faces
are seen in validation alone, though not their families.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from codomain.codecs.load import load
from codomain.tasks.labelled import Stored, chance, stream_seed
from codomain.tasks.learner import about_codec
from codomain.tasks.pixels import to_jpeg
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

ALPHABET = " " + string.ascii_lowercase + string.ascii_uppercase + string.digits + ".,:;!?-+()/%&'"
SUFFIXES = {".ttf", ".otf"}
STARTS = [*"bcdfghjklmnpqrstvwxyz", "br", "ch", "cl", "dr", "fl", "gr", "pl", "qu", "sh", "st", "str", "th", "tr"]
VOWELS = [*"aeiouaeio", "ea", "ou", "ai"]
ENDS = ["", "", "", *"lmnrstx", "ck", "nd", "ng", "nt", "rs", "st"]
MARGIN = 6  # pixels that begin and end of a line keep off the sides
STATISTICS = 256  # lines that mean and deviation are counted on, and sizes of files


class Lines(NamedTuple):
    """A batch, and what it says."""

    x: Float[Tensor, "b d h w"] | UInt8[Tensor, "b 3 h w"]
    texts: tuple[str, ...]


class Face(NamedTuple):
    """A font file, and the height of its x over its size."""

    path: str
    x_height: float


class Look(NamedTuple):
    """How large lines are: height and width, least and most height of an x, pixels; and what they are shrunk by."""

    size: tuple[int, int] = (24, 192)
    x_height: tuple[float, float] = (5.0, 9.0)
    shrink: int = 1


class TextLines(L.LightningDataModule):
    """Batches of lines of text, `Lines`: pixels in [-1, 1], or latents.

    Latents in training are those of `Codec.encode`, integers times their steps; in validation they are read from the
    bytes of a `.cdm` file each.

    Args:
        root: folder of fonts; subfolders are searched. Those that lack a character of `ALPHABET` are left out.
        model: of images, whose latents the batches hold; None: pixels.
        quality: as of `Codec.encode`.
        shrink: how many times narrower and lower the pixels are, as Pillow's LANCZOS shrinks.
        height, width: of a line before that, pixels.
        x_height: least and most of a small letter without ascender, pixels before that.
        batch_size: lines a step.
        workers: processes that draw, each other lines; 0 draws in this one.
        val_lines: lines of a validation.
        val_share: share of the faces kept for it, chosen by a hash of their names: styles and weights of families that
            may be in both parts.
        seed: of all that is drawn.

    Raises:
        ValueError: without faces for either part, for a model with shrunk pixels, for type that does not fit.
    """

    def __init__(
        self,
        root: Path = Path("/usr/share/fonts"),
        model: str | None = None,
        quality: float | None = None,
        shrink: int = 1,
        height: int = 24,
        width: int = 192,
        x_height: tuple[float, float] = (5.0, 9.0),
        batch_size: int = 32,
        workers: int = 0,
        val_lines: int = 256,
        val_share: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if model is not None and shrink > 1:
            raise ValueError(f"pixels are shrunk, latents are not; found model={model} and shrink={shrink}")
        if not 0 < x_height[0] <= x_height[1] <= height / 2:
            raise ValueError(f"x_height is two numbers of pixels, up to {height / 2:g}; found {list(x_height)}")
        self.codec = None if model is None else load(model)
        self.quality, self.look = quality, Look((height, width), x_height, shrink)
        self.batch_size, self.workers, self.val_lines, self.seed = batch_size, workers, val_lines, seed
        self.train_faces, self.val_faces = split(find_faces(root), val_share)
        if not self.train_faces or not self.val_faces:
            n = len(self.train_faces + self.val_faces)
            raise ValueError(
                f"{root}: found {n} fonts ({' '.join(sorted(SUFFIXES))}) of all of {ALPHABET!r}; expected some for "
                f"training and some for validation, with val_share={val_share:g}"
            )
        self.channels = 3 if self.codec is None else self.codec.latent_dim
        cell = shrink if self.codec is None else self.codec.stride
        self.grid = (-(-height // cell), -(-width // cell))

    def train_dataloader(self) -> DataLoader[Lines]:
        """An endless stream; a resumed run sees other lines than its beginning did."""
        seed = stream_seed(self, self.seed)
        return self._loader(_Stream(self.train_faces, self.look, seed))

    def val_dataloader(self) -> DataLoader[Lines]:
        """The same lines every time."""
        return self._loader(_Fixed(self.val_faces, self.look, self.val_lines))

    def on_after_batch_transfer(self, batch: Lines, dataloader_idx: int) -> Lines:
        """Make what the task is given, on the device."""
        training = self.trainer is not None and self.trainer.training
        return Lines(self.to_signal(batch.x, through_files=not training), batch.texts)

    @torch.no_grad()
    def to_signal(self, x: UInt8[Tensor, "b 3 h w"], through_files: bool = False) -> Float[Tensor, "b d _h _w"]:
        """Return pixels in [-1, 1], or latents, of drawn lines."""
        if self.codec is None:
            return x.float() / 127.5 - 1
        codec = self.codec.to(x.device)
        if through_files:
            files = (codec.compress(line[None], quality=self.quality) for line in x)
            return torch.cat([codec.read_latents(data) for data in files]).clone()
        return codec.encode(x, self.quality).clone()  # a clone is no tensor of inference alone: it can be trained on

    def describe(self) -> dict[str, Any]:
        """Return the height of a line, and the codec's name, digest and quality, or what pixels are shrunk by."""
        if self.codec is None:
            return {"height": self.look.size[0], "shrink": self.look.shrink}
        return {"height": self.look.size[0], "quality": self.quality, **about_codec(self.codec)}

    def stored(self, jpeg: int) -> Stored:
        """Return what a line is in a file: a `.cdm` file, or JPEG."""
        lines = _Fixed(self.val_faces, self.look, STATISTICS)
        total = 0
        for i in range(STATISTICS):
            x, _ = lines[i]
            total += len(to_jpeg(x, jpeg) if self.codec is None else self.codec.compress(x[None], quality=self.quality))
        return Stored(total / STATISTICS, (self.channels, *self.grid))

    def statistics(self) -> tuple[Float[Tensor, " d"], Float[Tensor, ""]]:
        """Return the mean of each channel, and the deviation from it of all, of `STATISTICS` training lines."""
        stream = iter(_Stream(self.train_faces, self.look, self.seed))
        x = self.to_signal(torch.stack([next(stream)[0] for _ in range(STATISTICS)])).movedim(1, 0).flatten(1)
        mean = x.mean(1)
        return mean, (x - mean[:, None]).square().mean().sqrt().clamp_min(1e-6)

    def _loader(self, lines: Dataset[Any]) -> DataLoader[Lines]:
        return DataLoader(
            lines,
            batch_size=self.batch_size,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
        )


class _Stream(IterableDataset[tuple[Tensor, str]]):
    def __init__(self, faces: list[Face], look: Look, seed: int) -> None:
        self.faces, self.look, self.seed = faces, look, seed

    def __iter__(self) -> Iterator[tuple[Tensor, str]]:
        worker = get_worker_info()
        rng = Random(f"{self.seed} {worker.id if worker else 0}")
        while True:
            yield draw_line(rng, self.faces, self.look)


class _Fixed(Dataset[tuple[Tensor, str]]):
    def __init__(self, faces: list[Face], look: Look, n: int) -> None:
        self.faces, self.look, self.n = faces, look, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return draw_line(Random(f"validation {index}"), self.faces, self.look)


def find_faces(root: Path) -> list[Face]:
    """Return the fonts below a folder that draw all of `ALPHABET`, sorted by name."""
    faces = []
    for path in sorted((p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES), key=lambda p: (p.name, p)):
        try:
            font = ImageFont.truetype(str(path), 100)
            missing = bytes(font.getmask("\uffff"))
            if any(bytes(font.getmask(c)) == missing for c in ALPHABET if c != " "):
                continue
        except OSError:  # a font that FreeType cannot draw
            continue
        _, top, _, bottom = font.getbbox("x")
        faces.append(Face(str(path), (bottom - top) / 100))
    return faces


def split(faces: Sequence[Face], val_share: float) -> tuple[list[Face], list[Face]]:
    """Return the faces of training and of validation, by a hash of their names."""
    held = [chance(Path(face.path).stem) < val_share for face in faces]
    return (
        [face for face, is_held in zip(faces, held, strict=True) if not is_held],
        [face for face, is_held in zip(faces, held, strict=True) if is_held],
    )


def word(rng: Random) -> str:
    """Return a pronounceable word, a name, a number, or a few characters of no sense, with punctuation."""
    kind = rng.random()
    if kind < 0.18:
        text = rng.choice(["{:d}", "{:,d}", "{:d}%", "+{:d}", "({:d})", "{:03d}", "{:d}-"]).format(
            rng.randrange(10 ** rng.randint(1, 5))
        )
    elif kind < 0.26:
        text = "".join(rng.choice(ALPHABET[1:]) for _ in range(rng.randint(1, 6)))
    else:
        syllables = rng.choice((1, 1, 2, 2, 3))
        text = "".join(rng.choice(STARTS) + rng.choice(VOWELS) + rng.choice(ENDS) for _ in range(syllables))
        look = rng.random()
        text = text.upper() if look < 0.1 else text.capitalize() if look < 0.3 else text
    return text + (rng.choice(".,:;!?'") if rng.random() < 0.15 else "")


def draw_line(rng: Random, faces: Sequence[Face], look: Look) -> tuple[UInt8[Tensor, "3 h w"], str]:
    """Return a line and its text, which fills 60 to 100 % of the width.

    Args:
        rng: of all choices.
        faces: one of which is drawn.
        look: of the line.
    """
    height, width = look.size
    face, x_height = rng.choice(faces), rng.uniform(*look.x_height)
    font = _font(face.path, round(4 * x_height / face.x_height) / 4)
    room = (width - 2 * MARGIN) * rng.uniform(0.6, 1)
    text = ""
    while True:
        longer = f"{text} {word(rng)}".lstrip()
        if font.getlength(longer) > room:
            break
        text = longer
    text = text or rng.choice(ALPHABET[1:])
    left = MARGIN + rng.uniform(0, max(0.0, width - 2 * MARGIN - font.getlength(text)))
    baseline = height / 2 + x_height / 2 + rng.uniform(-1.5, 1.5)
    ink = Image.new("L", (width, height))
    ImageDraw.Draw(ink).text((left, baseline), text, 255, font, anchor="ls")
    ink = ink.rotate(rng.uniform(-0.8, 0.8), Image.Resampling.BILINEAR)
    ink = ink.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.5)))
    return _shrunk(Image.fromarray(_print(ink, rng)), look.shrink), text


def to_height(picture: UInt8[Tensor, "3 h w"], height: int, shrink: int = 1) -> UInt8[Tensor, "3 _h _w"]:
    """Return the picture of a line as the lines that are drawn: of their height, and then shrunk."""
    line = Image.fromarray(picture.permute(1, 2, 0).numpy())
    if line.height != height:
        line = line.resize((max(1, round(line.width * height / line.height)), height), Image.Resampling.LANCZOS)
    return _shrunk(line, shrink)


def _shrunk(line: Image.Image, shrink: int) -> UInt8[Tensor, "3 h w"]:
    if shrink > 1:
        line = line.resize((max(1, line.width // shrink), line.height // shrink), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(line)).permute(2, 0, 1).contiguous()


def _print(ink: Image.Image, rng: Random) -> UInt8[np.ndarray, "h w 3"]:
    """Ink on paper: tinted, lit from a side, grainy; seldom light on dark."""
    noise = np.random.default_rng(rng.getrandbits(32))
    paper, contrast = rng.uniform(170, 250), rng.uniform(0.4, 0.95)
    colours = paper + noise.uniform(-15, 15, 3), paper * (1 - contrast) + noise.uniform(-15, 15, 3)
    ground, letters = (np.float32(c) for c in (colours[::-1] if rng.random() < 0.1 else colours))
    cover = np.asarray(ink, dtype=np.float32)[..., None] / 255
    height, width = cover.shape[:2]
    light = np.linspace(-1, 1, width, dtype=np.float32)[:, None] * np.float32(rng.uniform(-12, 12))
    grain = noise.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(0, 12))
    picture: np.ndarray = (ground + (letters - ground) * cover + light + grain).clip(0, 255).astype(np.uint8)
    return picture


@lru_cache(maxsize=2048)
def _font(path: str, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def _collate(lines: Sequence[tuple[Tensor, str]]) -> Lines:
    x, texts = zip(*lines, strict=True)
    return Lines(torch.stack(x), texts)
