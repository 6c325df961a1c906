"""NeRV: a network that knows a clip by heart, and makes any of its frames from its time.

    t --encoding of time, or embedding--> features --blocks--> features --head--> frame

Time runs in frames and may be fractional: between frames the network interpolates.

Sources: Chen et al., "NeRV: Neural representations for videos", 2021; Chen et al., "HNeRV: A hybrid neural
representation for videos", 2023; Zhang et al., "Boosting neural representations for videos with a conditional decoder",
2024; Ghorbel and Hamidouche, "NeRV++", 2024.
"""

from __future__ import annotations

from math import pi, prod

import torch
import torch.nn.functional as F
from codomain.codecs.architecture import Architecture
from codomain.codecs.nerv_blocks import ACTIVATIONS, Block, ResidualBlock
from jaxtyping import Float, Int64
from torch import Tensor, nn

# RGB of luma and two colour differences, full range (ITU-R BT.601)
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


class VideoNetwork(nn.Module):
    """A clip of so many frames.

    Args:
        a: its architecture.
        frames: of the clip.
    """

    frequencies: Tensor
    to_rgb: Tensor

    def __init__(self, a: Architecture, frames: int) -> None:
        super().__init__()
        self.architecture, self.frames = a, frames
        self.knots = a.knots(frames)
        if a.embedding:
            self.embeddings = nn.Parameter(torch.randn(self.knots, a.embedding, *a.grid) * 0.5)
            self.stem: nn.Module = nn.Conv2d(a.embedding, a.channels[0], 1)
        else:
            self.stem = nn.Sequential(
                nn.Linear(2 * a.time_levels, a.stem_width), ACTIVATIONS[a.activation](),
                nn.Linear(a.stem_width, a.channels[0] * prod(a.grid)),
            )  # fmt: skip
        self.stem_activation = ACTIVATIONS[a.activation]()
        self.stem_residual = ResidualBlock(a.channels[0], a.time_width, a.hidden) if a.stem_residual else None
        self.time = None
        if a.block == "boosted":
            self.time = nn.Sequential(
                nn.Linear(2 * a.time_levels, 2 * a.time_width), ACTIVATIONS["sine"](),
                nn.Linear(2 * a.time_width, a.time_width), ACTIVATIONS["sine"](),
            )  # fmt: skip
        blocks: list[Block] = []
        for i, (stride, kernel, depth) in enumerate(zip(a.strides, a.kernels, a.depths, strict=True)):
            inputs, outputs = a.channels[i : i + 2]
            blocks.append(Block(a, inputs, outputs, stride, kernel))
            blocks += [Block(a, outputs, outputs, 1, min(kernel, 3)) for _ in range(depth - 1)]
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(a.channels[-1], 3 if a.head == "rgb" else 6, 3, padding=1)
        levels = torch.arange(a.time_levels, dtype=torch.float64)
        self.register_buffer("frequencies", (a.time_base / 100) ** levels * pi, persistent=False)
        self.register_buffer("to_rgb", torch.tensor(TO_RGB), persistent=False)

    def forward(
        self, t: Float[Tensor, " b"], embeddings: Float[Tensor, "b e h w"] | None = None
    ) -> Float[Tensor, "b 3 height width"]:
        """Return the frames of times ``t``, in frames from the first: RGB, about [-1, 1], of the architecture's size.

        Args:
            t: 0 to frames - 1.
            embeddings: of those frames, in place of the ones that are held.
        """
        encoded = self.encoded(t)
        z = None if self.time is None else self.time(encoded)
        if self.architecture.embedding:
            f = self.stem(self.embedded(t) if embeddings is None else embeddings)
        else:
            f = self.stem(encoded).unflatten(1, (-1, *self.architecture.grid))
        f = self.stem_activation(f)
        if self.stem_residual is not None:
            f = self.stem_residual(f, z)
        for block in self.blocks:
            f = block(f, z)
        return self.to_frames(self.head(f))

    def encoded(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b levels"]:
        """Return sines and cosines of the time, as share of the clip (NeRV, equation 2)."""
        angles = ((t.double() + 1) / self.frames)[:, None] * self.frequencies
        return torch.cat((angles.sin(), angles.cos()), 1).float()

    def embedded(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b e h w"]:
        """Return embeddings, interpolated between the knots."""
        low, high, share = self.around(t)
        share = share[:, None, None, None]
        return torch.lerp(self.embeddings[low], self.embeddings[high], share.to(self.embeddings.dtype))

    def around(self, t: Float[Tensor, " b"]) -> tuple[Int64[Tensor, " b"], Int64[Tensor, " b"], Float[Tensor, " b"]]:
        """Return the knots before and after times, and the shares of the ones after."""
        place = (t / self.architecture.knot).clamp(0, self.knots - 1)
        low = place.floor().long().clamp(max=max(0, self.knots - 2))
        return low, (low + 1).clamp(max=self.knots - 1), place - low

    def to_frames(self, f: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 height width"]:
        """Return what the head's channels stand for: RGB, or four luma samples and two colour differences."""
        if self.architecture.head == "rgb":
            return f.tanh()
        luma = F.pixel_shuffle(f[:, :4], 2)
        chroma = F.interpolate(f[:, 4:], scale_factor=2, mode="bilinear")
        return torch.einsum("rc,bchw->brhw", self.to_rgb, torch.cat((luma, chroma), 1))


def sized(a: Architecture, frames: int, parameters: int, ratio: float, floor: int) -> Architecture:
    """Return the widest architecture of at most so many parameters.

    Args:
        a: all but the channels.
        frames: of the clip.
        parameters: embeddings included.
        ratio, floor: of the channels, see `Architecture.widened`.

    Raises:
        ValueError: if the narrowest has more.
    """
    low, high = floor, 1 << 12
    narrowest = a.widened(low, ratio, floor).n_parameters(frames)
    if narrowest > parameters:
        raise ValueError(f"the smallest such network has {narrowest} parameters; found room for {parameters}")
    while high - low > 1:
        middle = (low + high) // 2
        fits = a.widened(middle, ratio, floor).n_parameters(frames) <= parameters
        low, high = (middle, high) if fits else (low, middle)
    return a.widened(low, ratio, floor)
