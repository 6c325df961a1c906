"""Predict: what a file is of, by a trained classifier; `.cdm` files by their latents, others coded in memory first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from codomain.codecs import bitstream, files
from codomain.codecs.coder import BitstreamError
from codomain.codecs.load import index, load, name_of
from codomain.tasks.classify import from_checkpoint
from codomain.tasks.pixels import read_picture
from jaxtyping import Float
from torch import Tensor

TOP = 3  # classes that are told


class Predictor:
    """Bytes of a file to its label.

    Args:
        checkpoint: of `Classify`, from latents or from pixels.

    Raises:
        ValueError: if it is none, or of a codec that does not ship.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.module = from_checkpoint(checkpoint)
        data = self.module.about["data"]
        self.codec, self.shrink = None, data.get("shrink")
        if "codec" in data:
            if not index().get(data["codec"], {"sha256": ""})["sha256"].startswith(data["digest"]):
                raise ValueError(
                    f"{checkpoint}: learnt from {data['codec']}, weights {data['digest']}; none such ships"
                )
            self.codec = load(data["codec"])

    @torch.inference_mode()
    def __call__(self, data: bytes) -> dict[str, Any]:
        """Return label, probability, and the likeliest classes.

        Raises:
            ValueError: if the bytes are no signal of the kind that was learnt from, or of another codec.
        """
        chances = self.module(self._signal(data))[0].softmax(0)
        best = chances.argsort(descending=True)[:TOP].tolist()
        top = {self.module.about["classes"][i]: round(float(chances[i]), 4) for i in best}
        label = next(iter(top))
        return {"label": label, "probability": top[label], "top": top}

    def _signal(self, data: bytes) -> Float[Tensor, "1 d *grid"]:
        is_coded = data[:3] == bitstream.MAGIC
        if self.codec is None:
            if not is_coded:
                return read_picture(data, self.shrink or 1)[None].float() / 127.5 - 1
            raise ValueError("the checkpoint learnt from pixels: decode the file first")
        if not is_coded:
            if self.codec.kind == "sound":
                data = files.encode_sound(data, self.codec)[0]
            else:
                data = files.encode_picture(data, self.codec)[0]
        made_by = bitstream.read_header(data).model
        if made_by != self.codec.digest:
            raise BitstreamError(f"made by {name_of(made_by)}; the checkpoint learnt from {self.codec.name}")
        y = self.codec.read_latents(data)
        if len(y) != 1:
            raise ValueError(f"holds {len(y)} signals of {self.codec.channels} channels; expected one")
        return y
