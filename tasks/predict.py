"""Predict: what a trained task finds in a file. Classes and text are told; pictures and sound are written.

bytes of a .cdm file --entropy decoding--+
                                         +--> y --network--> label | text | coloured picture | sound of each stem
bytes of another ----coded in memory-----+
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from codomain.codecs import bitstream, files, media, recording, sound
from codomain.codecs.bitstream import Flag
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
        else:
            encode = files.encode_sound if self.codec.kind == "sound" else files.encode_picture
            x = self._latents(encode(data, self.codec)[0])
        return Found(self.module.answer(x), [])

    def _read(self, data: bytes) -> Found:
        if self._is_coded(data):
            return Found(self.module.answer(self._latents(data)), [])
        line = to_height(read_picture(data), self.data["height"], self.data.get("shrink", 1))
        x = (
            line[None].float() / 127.5 - 1
            if self.codec is None
            else self.codec.encode(line[None], self.data["quality"])
        )
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
        if self.codec is None:
            x, form = self._samples(data)
            cell = self.data["cell"]
            x = mdct(torch.nn.functional.pad(x, (0, -x.shape[-1] % cell)), cell)
            sounds = [inverse_mdct(y, cell)[0] for y in self.module(x).unbind(1)]
        else:
            coded = data if self._is_coded(data) else files.encode_sound(data, self.codec)[0]
            header = bitstream.read_header(coded)
            form, quality = recording.form_of(header), None
            self._check_form(form, self.codec.channels, self.codec.sample_rate or form.sample_rate)
            if self.codec.bottleneck.has_rates:
                quality = header.quality / 4
            y = self.module(self._latents(coded))
            sounds = [self.codec.decode(part, quality=quality)[0] for part in y.unbind(1)]
        written = []
        for x in sounds:
            out = io.BytesIO()
            sound.write_sound(out, [x[:, : form.samples].clamp(-1, 1).numpy()], replace(form, depth=24), ".flac")
            written.append(out.getvalue())
        return Found({"stems": self.module.about["stems"]}, written)

    def _samples(self, data: bytes) -> tuple[Float[Tensor, "1 c t"], sound.Format]:
        """Return a whole recording."""
        with sound.Reader(data) as reader:
            form = reader.format
            self._check_form(form, self.data["channels"], self.data["sample_rate"])
            return torch.from_numpy(np.concatenate(list(reader.blocks()), 1))[None], form

    def _check_form(self, form: sound.Format, channels: int, sample_rate: int) -> None:
        if (form.channels, form.sample_rate) != (channels, sample_rate):
            raise ValueError(
                f"{form.channels} channels at {form.sample_rate} Hz; "
                f"the checkpoint learnt from {channels} at {sample_rate} Hz"
            )

    def _is_coded(self, data: bytes) -> bool:
        return data[:3] == bitstream.MAGIC

    def _latents(self, data: bytes) -> Float[Tensor, "1 d *grid"]:
        assert self.codec is not None  # or no coded bytes come here
        y = self.codec.read_latents(data)
        if len(y) != 1:
            raise ValueError(f"holds {len(y)} signals of {self.codec.channels} channels; expected one")
        return y


def from_checkpoint(path: Path) -> Learner:
    """Return a trained task, in evaluation mode; nothing in the file is executed.

    Raises:
        ValueError: if it is no checkpoint of a task.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        task = checkpoint["task"]
        if task["name"] not in TASKS:
            raise ValueError(f"{path}: a checkpoint of the task {task['name']}; expected one of {', '.join(TASKS)}")
        module = TASKS[task["name"]](**task["shape"])
        module.build(task["about"])
        module.load_state_dict(checkpoint["state_dict"])
    except OSError:
        raise
    except (KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: no checkpoint of a task ({type(error).__name__})") from None
    return module.eval().requires_grad_(False)
