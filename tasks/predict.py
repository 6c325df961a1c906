"""Predict: what a trained task finds in a file. Classes and text are told; pictures and sound are written.

bytes of a .cdm file --entropy decoding--+
                                         +--> y --network--> label | text | coloured picture | sound of each stem
bytes of another ----coded in memory-----+
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from codomain.codecs import bitstream, files, media, recording, sound
from codomain.codecs.bitstream import Flag
from codomain.codecs.codec import Codec
from codomain.codecs.coder import BitstreamError
from codomain.codecs.load import index, load, name_of
from codomain.tasks.classify import Classify
from codomain.tasks.colorize import Colorize
from codomain.tasks.greyed import to_known, to_photos
from codomain.tasks.learner import Learner
from codomain.tasks.mdct import inverse_mdct, mdct
from codomain.tasks.pixels import read_picture
from codomain.tasks.read import Read
from codomain.tasks.separate import Separate
from codomain.tasks.text_lines import to_height
from jaxtyping import Float
from torch import Tensor

PIECE = 4096  # cells of a song that are separated at once
TASKS: dict[str, type[Learner]] = {"classify": Classify, "read": Read, "colorize": Colorize, "separate": Separate}


class Found(NamedTuple):
    """What is found in a file: words, and the bytes of the files to be written, as many as `Predictor.paths`."""

    words: dict[str, Any]
    written: list[bytes]


class Predictor:
    """Bytes of a file to what is found in it.

    Args:
        checkpoint: ``model.ckpt`` of a run of any task, from latents or from pixels or samples.

    Attributes:
        suffix: of what is written for a file: "" for a folder of stems; None of a task that finds words.

    Raises:
        ValueError: if it is none, or of a codec that does not ship.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.module = from_checkpoint(checkpoint)
        self.data: dict[str, Any] = self.module.about["data"]
        self.codec = None
        if "codec" in self.data:
            name, digest = self.data["codec"], self.data["digest"]
            if not index().get(name, {"sha256": ""})["sha256"].startswith(digest):
                raise ValueError(f"{checkpoint}: learnt from {name}, weights {digest}; none such ships")
            self.codec = load(name)
        ways: dict[type[Learner], tuple[Callable[[bytes], Found], str | None]] = {
            Classify: (self._label, None), Read: (self._read, None), Colorize: (self._colorize, ".png"),
            Separate: (self._separate, ""),
        }  # fmt: skip
        self.find, self.suffix = ways[type(self.module)]

    @torch.inference_mode()
    def __call__(self, data: bytes) -> Found:
        """Return what is found.

        Raises:
            ValueError: if the bytes are no signal of the kind that was learnt from, or of another codec.
        """
        if self._is_coded(data):
            if self.codec is None:
                raise ValueError("the checkpoint learnt from pixels or samples: decode the file first")
            made_by = bitstream.read_header(data).model
            if made_by != self.codec.digest:
                raise BitstreamError(f"made by {name_of(made_by)}; the checkpoint learnt from {self.codec.name}")
        return self.find(data)

    def paths(self, target: Path) -> list[Path]:
        """Return the files that are written for one."""
        if self.suffix == "":
            return [target / f"{name}.flac" for name in self.module.about["stems"]]
        return [target]

    def _label(self, data: bytes) -> Found:
        if self.codec is None:
            x = read_picture(data, self.data.get("shrink", 1))[None].float() / 127.5 - 1
        elif self._is_coded(data):
            x = self._latents(data)
        elif self.codec.kind == "image":
            x = self._latents(files.encode_picture(data, self.codec)[0])
        else:
            x = self._latents(self._encode(data, self.codec))
        return Found(self.module.answer(x), [])

    def _read(self, data: bytes) -> Found:
        if self._is_coded(data):
            return Found(self.module.answer(self._latents(data)), [])
        line = to_height(read_picture(data), self.data["height"], self.data.get("shrink", 1))
        if self.codec is None:
            x = line[None].float() / 127.5 - 1
        else:
            x = self.codec.encode(line[None], self.data["quality"])
        return Found(self.module.answer(x), [])

    def _colorize(self, data: bytes) -> Found:
        quality = self.data.get("quality")
        if self._is_coded(data):
            header = bitstream.read_header(data)
            if Flag.GREY not in header.flags:
                raise ValueError("holds a picture in colours; expected a grey one")
            x, (width, height) = self._latents(data), header.shape
            quality = header.quality / 4 if self.codec and self.codec.bottleneck.has_rates else None
        else:
            picture = read_picture(data)[None].float() / 127.5 - 1
            x, (height, width) = to_known(picture, self.codec, quality), picture.shape[2:]
        photo = to_photos(x, self.module(x), self.codec, quality)[0, :, :height, :width]
        pixels = ((photo + 1) * 127.5).round().to(torch.uint8)
        return Found({"width": width, "height": height}, [media.write_image(media.Picture(pixels), "PNG")])

    def _separate(self, data: bytes) -> Found:
        sounds, form = self._stems_of_samples(data) if self.codec is None else self._stems_of_latents(data, self.codec)
        written = []
        for x in sounds:
            out = io.BytesIO()
            sound.write_sound(out, [x[:, : form.samples].clamp(-1, 1).numpy()], replace(form, depth=24), ".flac")
            written.append(out.getvalue())
        return Found({"stems": self.module.about["stems"]}, written)

    def _stems_of_samples(self, data: bytes) -> tuple[Iterator[Float[Tensor, "c t"]], sound.Format]:
        with sound.Reader(data) as reader:
            form, cell = reader.format, self.data["cell"]
            self._check_form(form, self.data["channels"])
            x = torch.from_numpy(np.concatenate(list(reader.blocks()), 1))[None]
        y = self._in_pieces(mdct(F.pad(x, (0, -x.shape[-1] % cell)), cell))
        return (inverse_mdct(part, cell)[0] for part in y.unbind(1)), form

    def _stems_of_latents(self, data: bytes, codec: Codec) -> tuple[Iterator[Float[Tensor, "c t"]], sound.Format]:
        coded = data if self._is_coded(data) else self._encode(data, codec)
        header = bitstream.read_header(coded)
        form, quality = recording.form_of(header), header.quality / 4 if codec.bottleneck.has_rates else None
        self._check_form(form, codec.channels)
        x = self._latents(coded)
        sounds = (codec.decode(part, quality=quality)[0] for part in self._in_pieces(x).unbind(1))
        if Flag.SILENCE in header.flags:
            silent = recording.silent_samples(codec, x, header.quality)[0]
            sounds = (part.masked_fill(silent, 0) for part in sounds)
        return sounds, form

    def _in_pieces(self, x: Float[Tensor, "1 d n"]) -> Float[Tensor, "1 k d n"]:
        """Return what the network finds; what it holds meanwhile does not grow with the length."""
        reach, parts = self.module.reach, []
        piece = -(-PIECE // self.module.shape["patch"]) * self.module.shape["patch"]
        for start in range(0, x.shape[2], piece):
            first = max(0, start - reach)
            found: Tensor = self.module(x[..., first : start + piece + reach])
            parts.append(found[..., start - first : start - first + piece])
        return torch.cat(parts, 3)

    def _encode(self, data: bytes, codec: Codec) -> bytes:
        with sound.Reader(data) as reader:
            self._check_form(reader.format, codec.channels)
        return files.encode_sound(data, codec)[0]

    def _check_form(self, form: sound.Format, channels: int) -> None:
        sample_rate = self.data.get("sample_rate", form.sample_rate)  # a codec of one rate resamples
        if (form.channels, form.sample_rate) != (channels, sample_rate):
            raise ValueError(
                f"{form.channels} channels at {form.sample_rate} Hz; "
                f"the checkpoint learnt from {channels} at {sample_rate} Hz"
            )

    def _is_coded(self, data: bytes) -> bool:
        return data[:3] == bitstream.MAGIC

    def _latents(self, data: bytes) -> Float[Tensor, "1 d *grid"]:
        assert self.codec is not None  # or no coded bytes come here
        header = bitstream.read_header(data)
        if header.kind == "sound":
            self._check_form(recording.form_of(header), self.codec.channels)
        return self.codec.read_latents(data)


def from_checkpoint(path: Path) -> Learner:
    """Return a trained task, in evaluation mode; nothing in the file is executed.

    Raises:
        ValueError: if it is no checkpoint of a task.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        task = checkpoint["task"]
        if task["name"] not in TASKS:
            raise ValueError(f"a checkpoint of the task {task['name']}; expected one of {', '.join(TASKS)}")
        module = TASKS[task["name"]](**task["shape"])
        module.build(task["about"] | {"data": dict(task["about"]["data"])})
        module.load_state_dict(checkpoint["state_dict"])
    except OSError:
        raise
    except (KeyError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: no checkpoint of a task ({type(error).__name__})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return module.eval().requires_grad_(False)
