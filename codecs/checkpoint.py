"""Checkpoint: an encoding of a clip that was broken off goes on where it was.

A safetensors file beside the output: the integers of the segments that are done; of the one that is fitted its numbers,
the logarithms of their steps, its encoder, Adam's moments and the state of the generator; and as text what the encoding
is of, and the numbers of `Fitting`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from codomain.codecs.encoding import Encoding
from codomain.codecs.files import writing
from codomain.codecs.fit import Fit, Fitting, Layout
from codomain.codecs.nerv import VideoNetwork
from codomain.codecs.weight_bottleneck import Quantized
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SUFFIX = ".partial.safetensors"
PAUSE = 30.0  # seconds between two of a fit


class Checkpoint:
    """The state of one encoding.

    Args:
        path: of the file.
        key: what the encoding is of: a state of another key is not taken up.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self.path, self.key = path, json.loads(json.dumps(key))
        self.saved = time.monotonic()
        self.running: tuple[dict[str, Tensor], Fitting] | None = None

    @property
    def is_due(self) -> bool:
        """Whether `PAUSE` is over."""
        return time.monotonic() - self.saved >= PAUSE

    def save(self, encoding: Encoding, fit: Fit | None = None) -> None:
        """Write the state; of the segment that is fitted too, if there is one."""
        tensors: dict[str, Tensor] = {}
        for i, found in enumerate(encoding.done):
            tensors |= {f"integers.{i}": torch.from_numpy(found.integers), f"steps.{i}": torch.from_numpy(found.steps)}
        text = {"key": json.dumps(self.key | _networks(encoding))}
        if fit is not None:
            text["fitting"] = json.dumps(asdict(fit.state))
            tensors["generator"] = fit.generator.get_state()
            for name, parameter in fit.named_parameters():
                tensors[f"fit.{name}"] = parameter.detach()
                tensors |= {f"adam.{name}.{key}": value for key, value in fit.optimizer.state[parameter].items()}
        with writing(self.path, force=True) as partial:
            save_file({name: value.contiguous() for name, value in tensors.items()}, partial, text)
        self.saved = time.monotonic()

    def load(self, encoding: Encoding) -> bool:
        """Give an encoding the segments that were done; return whether there was a state.

        Raises:
            ValueError: if the file is damaged, or of another encoding.
        """
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, "pt") as file:
                text = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            key = json.loads(text["key"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{self.path} is no state of an encoding ({error}): --force starts anew") from None
        wanted = self.key | _networks(encoding)
        if key != wanted:
            other = ", ".join(name for name in wanted if key.get(name) != wanted[name])
            raise ValueError(f"{self.path} is of another encoding (it differs in {other}): --force starts anew")
        i = 0
        while f"integers.{i}" in tensors:
            self._add(encoding, Quantized(tensors[f"integers.{i}"].numpy(), tensors[f"steps.{i}"].numpy()))
            i += 1
        if "fitting" in text:
            self.running = tensors, Fitting(**json.loads(text["fitting"]))
        return True

    def resume(self, fit: Fit) -> None:
        """Give the first fit after `load` the state that it had."""
        if self.running is None:
            return
        tensors, fit.state = self.running
        fit.generator.set_state(tensors["generator"])
        for name, parameter in fit.named_parameters():
            with torch.no_grad():
                parameter.copy_(tensors[f"fit.{name}"])
            prefix = f"adam.{name}."
            moments = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if moments:
                fit.optimizer.state[parameter] = moments
        self.running = None

    def remove(self) -> None:
        """Delete the file: the encoding is done."""
        self.path.unlink(missing_ok=True)

    def _add(self, encoding: Encoding, found: Quantized) -> None:
        segment = encoding.plan.segments[len(encoding.done)]
        sizes = Layout(VideoNetwork(encoding.plan.architecture, segment.counted)).sizes
        encoding.chunks.append(found.to_bytes(sizes, encoding.done[-1].integers if segment.chained else None))
        encoding.done.append(found)


def _networks(encoding: Encoding) -> dict[str, str]:
    """Return what configs of one name may differ in."""
    return {"networks": encoding.plan.to_bytes().hex()}
