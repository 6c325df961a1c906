"""Mirror: what a mirrored picture's latents are, made of the latents of the picture.

The packets of a symmetric filter are of even and of odd samples: mirrored at a sample, a picture's packets are its own,
backwards, some with another sign and some one cell aside. Latents mix packets, so their counterpart is a linear map of
three neighbours, exact as far as the latents tell the packets. Mirroring at a sample moves a picture by a pixel:

    x_mirrored[n] = x[N - n]        y_mirrored = 1 x 3 convolution of y, backwards

Of the pixel transforms, these have a counterpart on the latents of `WaLLoC` (relative energy of the difference to the
latents of the changed picture, on photographs, 16x and 4x; rounding the latents costs 0.002 and 0.009):

    moved by whole cells        exact, up to the filters' reach from where the picture ends: a window of the grid
    mirrored at a sample        0.003 and 0.001, by this map; 0.26 and 0.27 by the best d x d matrix of each cell alone
    mirrored, not moved         0.006 and 0.004
    transposed                  0.001 and 0.001, by the best d x d matrix of each cell

Moves by fewer pixels than a cell, zooms and turns by other angles have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from codomain.codecs.codec import Codec
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mirror:
    """A fitted map.

    Attributes:
        weight: from a cell and its two neighbours along the axis, of the latents backwards.
        bias: added.
        axis: -1 for left and right, -2 for up and down.
        error: energy of what the map lacks, relative to the latents' variance, where it was fitted.
    """

    weight: Float[Tensor, "d d 3"]
    bias: Float[Tensor, " d"]
    axis: int
    error: float

    def __call__(self, y: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """Return the latents of mirrored pictures; the outermost cells stand for those beyond the edge."""
        weight = self.weight.to(y).unsqueeze(-2 if self.axis == -1 else -1)
        pads = (1, 1, 0, 0) if self.axis == -1 else (0, 0, 1, 1)
        return F.conv2d(F.pad(y.flip(self.axis), pads, mode="replicate"), weight, self.bias.to(y))


@torch.no_grad()
def fit(codec: Codec, pictures: Iterable[Float[Tensor, "1 c h w"]], axis: int = -1) -> Mirror:
    """Fit a map by least squares.

    Args:
        codec: of images.
        pictures: in [-1, 1], sides multiples of the codec's stride and longer than two cells.
        axis: that is mirrored, -1 or -2.
    """
    n, total = 3 * codec.latent_dim + 1, torch.zeros(codec.latent_dim, dtype=torch.float64)
    inner, cross = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, codec.latent_dim, dtype=torch.float64)
    square = 0.0
    for x in pictures:
        y = codec.analysis(x).flip(axis).movedim(axis, -1)
        moved = codec.analysis(x.flip(axis).roll(1, axis)).movedim(axis, -1)[..., 1:-1]
        around = torch.stack([y[..., i : i + moved.shape[-1]] for i in range(3)], 2).flatten(1, 2)
        a = F.pad(around.movedim(1, -1).flatten(0, -2), (0, 1), value=1.0).double()
        b = moved.movedim(1, -1).flatten(0, -2).double()
        inner, cross, total = inner + a.T @ a, cross + a.T @ b, total + b.sum(0)
        square += float(b.square().sum())
    rows = inner[-1, -1]
    found = torch.linalg.solve(inner + 1e-9 * inner.trace() / n * torch.eye(n, dtype=torch.float64), cross)
    lacking = square - 2 * float((found * cross).sum()) + float((found * (inner @ found)).sum())
    error = lacking / max(square - float(total.square().sum() / rows), 1e-12)
    weight = found[:-1].T.reshape(codec.latent_dim, codec.latent_dim, 3).float()
    return Mirror(weight, found[-1].float(), axis, error)
