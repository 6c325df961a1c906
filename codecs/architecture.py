"""Architecture: what a video network is, in a few numbers that its file holds.

NeRV, HNeRV, their boosted forms and NeRV++ differ in four choices: what a frame's features start from (its time, or an
embedding), the block that enlarges them, the layers after it, and the head. Here they are fields of one record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from math import log, prod

from codomain.codecs.coder import BitstreamError, read_varint, write_varint

BLOCKS = ("plain", "boosted", "sandwich")
BOOSTED_STEM = len(BLOCKS)  # in a file: boosted blocks, and such a residual block before them
ACTIVATIONS = ("gelu", "sine", "silu")
HEADS = ("rgb", "yuv420")
MAX_STAGES = 8
MAX_PARAMETERS = 1 << 27
MAX_MACS = 1 << 21  # multiplications for a pixel of a frame; published networks take half of them
MAX_FEATURES = 1 << 8  # numbers of one layer, for a pixel of a frame
SMALL = 1 << 14, 1 << 18  # pixels that a smaller frame counts as, in these limits
STEM = 512  # width of the stem that makes features from the time alone, at most
CELLS = 32  # of the first features


@dataclass(frozen=True)
class Architecture:
    """A video network.

    Attributes:
        grid: height and width of the first features.
        strides: enlargement of each stage.
        channels: of the features: the first, and those after each stage.
        kernels: taps of each stage's convolution.
        depths: blocks of each stage; those after the first do not enlarge.
        block: "plain" (NeRV), "boosted" (sine, affine in time, residual) or "sandwich" (NeRV++).
        activation: of the blocks.
        head: "rgb" at full size, or "yuv420": luma and chroma planes off the features of half size.
        embedding: channels of the embeddings; 0: the first features come from the time alone.
        knot: frames from one embedding to the next, between which they are interpolated.
        time_levels: frequencies of the encoding of time.
        time_base: ratio of each to the one before, in hundredths.
        time_width: numbers that the affine layers know of the time.
        hidden: width of the layers between those numbers and the factors; 0: linear.
        stem_residual: whether the first features pass a residual block, where blocks are boosted.
    """

    grid: tuple[int, int]
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    depths: tuple[int, ...]
    block: str = "boosted"
    activation: str = "sine"
    head: str = "yuv420"
    embedding: int = 16
    knot: int = 1
    time_levels: int = 80
    time_base: int = 125
    time_width: int = 32
    hidden: int = 32
    stem_residual: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames that it makes, before they are cut."""
        scale = prod(self.strides) * (2 if self.head == "yuv420" else 1)
        return self.grid[0] * scale, self.grid[1] * scale

    def to_bytes(self) -> bytes:
        """Return the record as varints: the number of stages, then the fields as they are declared.

        The last one is told by the number of the block.
        """
        numbers = [len(self.strides), *self.grid, *self.strides, *self.channels, *self.kernels, *self.depths]
        block = BOOSTED_STEM if self.stem_residual else BLOCKS.index(self.block)
        numbers += [block, ACTIVATIONS.index(self.activation), HEADS.index(self.head)]
        numbers += [getattr(self, field.name) for field in fields(self)[8:-1]]
        return b"".join(map(write_varint, numbers))

    @classmethod
    def read(cls, data: bytes | memoryview, at: int = 0) -> tuple[Architecture, int]:
        """Invert `to_bytes`; return the record and where it ends.

        Raises:
            BitstreamError: if it is none, or one beyond the limits.
        """

        def number(most: int, least: int = 0) -> int:
            nonlocal at
            value, at = read_varint(data, at)
            if not least <= value <= most:
                raise BitstreamError(f"architecture is damaged: {value}, expected {least} to {most}")
            return value

        def several(n: int, most: int, least: int = 1) -> tuple[int, ...]:
            return tuple(number(most, least) for _ in range(n))

        stages = number(MAX_STAGES, 1)
        height, width = several(2, 1 << 12)
        strides, channels = several(stages, 16), several(stages + 1, 1 << 13)
        kernels, depths = several(stages, 7), several(stages, 4)
        block_number, activation, head = number(BOOSTED_STEM), ACTIVATIONS[number(2)], HEADS[number(1)]
        stem_residual = block_number == BOOSTED_STEM
        block = "boosted" if stem_residual else BLOCKS[block_number]
        embedding, knot, levels = number(1 << 12), number(1 << 16, 1), number(256)
        base, time_width, hidden = number(1000, 101), number(1 << 10), number(1 << 10)
        if any(not kernel % 2 for kernel in kernels):
            raise BitstreamError(f"architecture is damaged: kernels {kernels}, expected odd ones")
        if (not embedding and not levels) or (block == "boosted" and not (levels and time_width)):
            raise BitstreamError("architecture is damaged: nothing tells one frame from another")
        found = cls(
            (height, width), strides, channels, kernels, depths, block, activation, head, embedding, knot, levels, base,
            time_width, hidden, stem_residual,
        )  # fmt: skip
        return found, at

    def fault(self, height: int, width: int, frames: int) -> str | None:
        """Say why it is none for so many frames of a size, if it is not: before anything is allocated for it."""
        scale = prod(self.strides) * (2 if self.head == "yuv420" else 1)
        if self.grid != (-(-height // scale), -(-width // scale)):
            return f"networks make {self.size[0]} x {self.size[1]} pixels; the clip has {height} x {width}"
        if self.n_parameters(frames) > MAX_PARAMETERS:
            return f"a network has {self.n_parameters(frames)} parameters; at most {MAX_PARAMETERS} are allowed"
        macs, pixels = self.macs, height * width
        if macs > MAX_MACS * max(pixels, SMALL[0]) or self.features > MAX_FEATURES * max(pixels, SMALL[1]):
            return f"a frame of {pixels} pixels takes {macs} multiplications and {self.features} numbers at a time"
        return None

    @property
    def stem_width(self) -> int:
        """Numbers between the encoding of time and the first features, where these come from the time alone."""
        return min(STEM, 4 * self.channels[0])

    def knots(self, frames: int) -> int:
        """Return how many embeddings a clip of so many frames has."""
        return -(-(frames - 1) // self.knot) + 1

    def n_parameters(self, frames: int) -> int:
        """Return how many numbers the network of so many frames has, embeddings included."""
        embeddings = self.knots(frames) * self.embedding * prod(self.grid)
        return embeddings + sum(parameters for parameters, _, _ in self._layers())

    @property
    def macs(self) -> int:
        """Multiplications that a frame takes."""
        return sum(parameters * places for parameters, places, _ in self._layers())

    @property
    def features(self) -> int:
        """Numbers of a frame's largest layer."""
        return max(outputs * places for _, places, outputs in self._layers())

    def _layers(self) -> Iterator[tuple[int, int, int]]:
        """Yield parameters, places where they are used, and outputs at each, of all layers."""
        places, width, levels = prod(self.grid), self.stem_width, 2 * self.time_levels
        if self.embedding:
            yield (self.embedding + 1) * self.channels[0], places, self.channels[0]
        else:
            yield (levels + 1) * width + (width + 1) * self.channels[0] * places, 1, self.channels[0] * places
        if self.block == "boosted":
            yield (levels + 1) * 2 * self.time_width + (2 * self.time_width + 1) * self.time_width, 1, levels
        if self.stem_residual:
            yield from self._residual(self.channels[0], places)
        for i, (stride, kernel, depth) in enumerate(zip(self.strides, self.kernels, self.depths, strict=True)):
            inputs, outputs = self.channels[i : i + 2]
            yield from self._block(inputs, outputs, stride, kernel, places)
            places *= stride**2
            for _ in range(depth - 1):
                yield from self._block(outputs, outputs, 1, min(kernel, 3), places)
        outputs = 3 if self.head == "rgb" else 6
        yield (9 * self.channels[-1] + 1) * outputs, places, outputs

    def _block(
        self, inputs: int, outputs: int, stride: int, kernel: int, places: int
    ) -> Iterator[tuple[int, int, int]]:
        enlarged = outputs * stride**2
        yield (kernel**2 * inputs + 1) * enlarged, places, enlarged
        if self.block == "boosted":
            yield from self._residual(outputs, places * stride**2)
        if self.block == "sandwich":
            yield (inputs + 11) * inputs, places, inputs
            yield (outputs + 11) * outputs, places * stride**2, outputs
            if inputs != outputs:
                yield (inputs + 1) * outputs, places, outputs

    def _residual(self, channels: int, places: int) -> Iterator[tuple[int, int, int]]:
        yield 2 * (9 * channels + 1) * channels, places, channels
        if self.hidden:
            yield 4 * ((self.time_width + 1) * self.hidden + (self.hidden + 1) * channels), 1, channels
        else:
            yield 4 * (self.time_width + 1) * channels, 1, channels

    def widened(self, width: int, ratio: float, floor: int) -> Architecture:
        """Return it with ``width`` channels first, and each stage's those before over ``ratio``: at least ``floor``."""
        channels = [width]
        for _ in self.strides:
            channels.append(max(floor, round(channels[-1] / ratio)))
        return replace(self, channels=tuple(channels))


def choose_strides(
    height: int, width: int, finest: int, stages: int = 4, cells: int = CELLS
) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Return grid and strides for frames of a size: a grid of about so many cells, and no side cut by much.

    Args:
        height, width: of the frames.
        finest: enlargement of the head, 1 or 2.
        stages: at most so many.
        cells: wanted.
    """

    def waste(strides: Sequence[int]) -> tuple[float, float]:
        scale = prod(strides) * finest
        h, w = -(-height // scale), -(-width // scale)
        return h * w * scale**2 / (height * width), abs(log(h * w / cells))

    found = [(5, 4, 2, 2), (5, 2, 2, 2), (4, 4, 2, 2), (4, 3, 2, 2), (4, 2, 2, 2), (3, 3, 2, 2), (3, 2, 2, 2),
             (2, 2, 2, 2), (5, 4, 2), (5, 2, 2), (4, 2, 2), (3, 2, 2), (2, 2, 2), (2, 2), (2,)]  # fmt: skip
    fitting = [s for s in found if len(s) <= stages and prod(s) * finest <= max(2, min(height, width))] or [(2,)]
    strides = min(fitting, key=lambda s: 3 * waste(s)[0] + waste(s)[1])
    scale = prod(strides) * finest
    return (-(-height // scale), -(-width // scale)), strides
