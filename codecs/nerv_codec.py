"""NervCodec: a clip as networks that know it by heart, in a real file.

    frames --segments--> a network each, fitted within its bytes --integers--> chunks
    chunks --integers--> networks --times--> frames, any of them, in any order

The first chunk of a file is the plan (`segments.py`); then comes a network for each segment, as `weight_bottleneck.py`
says, its numbers in the order of `Layout`; of a chained one the differences to the network before.

Times of a segment start at 0. Every frame is a key frame: it takes the integers of its segment, and of those that it is
chained to, and one pass of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import Any

import torch
from codomain.codecs import bitstream
from codomain.codecs.architecture import CELLS, Architecture, choose_strides
from codomain.codecs.bitstream import NO_FLAGS, File, Flag, Header
from codomain.codecs.bottleneck import Bottleneck
from codomain.codecs.codec import Codec
from codomain.codecs.coder import BitstreamError
from codomain.codecs.encoding import Encoding, Settings
from codomain.codecs.fit import Layout, Recipe
from codomain.codecs.nerv import VideoNetwork, sized
from codomain.codecs.segments import Plan, cuts_of, plan_of, segment_at
from codomain.codecs.weight_bottleneck import Quantized, read_quantized
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

BITS_PER_PARAMETER = 3.4
MIDDLE_BPP, QUALITIES_PER_OCTAVE = 0.03, 12.5  # bits per pixel at quality 50, and how they grow
DECODED, NUMBERS = 8, 1 << 25  # frames decoded at a time, and numbers of their largest layer
GREY = 128  # of the frames of a segment that is lost
FLOORS = (8, 6, 4)  # of channels, tried where a segment has few bytes


class NervCodec(Codec):
    """A family of video networks.

    Args:
        block, activation, head, embedding, knot, time_levels, time_base, time_width, hidden, stem_residual: see
            `Architecture`.
        strides: of the stages; by default chosen for each clip, from first features of about so many ``cells``.
        kernels: taps of the stages' convolutions; the last one stands for those that follow.
        depths: blocks of the stages, likewise.
        ratio, floor: of channels, see `Architecture.widened`.
        segment: frames of a network at most.
        chained: whether networks start from, and are coded as differences to, the one before.
        recipe: of the fit, see `Recipe`.
    """

    kind = "video"
    channels = 3
    ndim = 3
    stride = 1
    analysis_halo = synthesis_halo = 0

    def __init__(
        self,
        *,
        block: str = "boosted",
        activation: str = "sine",
        head: str = "yuv420",
        embedding: int = 16,
        knot: int = 8,
        time_levels: int = 16,
        time_base: int = 150,
        time_width: int = 16,
        hidden: int = 0,
        stem_residual: bool = False,
        strides: Sequence[int] | None = None,
        cells: int = CELLS,
        kernels: Sequence[int] = (3,),
        depths: Sequence[int] = (1,),
        ratio: float = 1.4,
        floor: int = 12,
        segment: int = 256,
        chained: bool = False,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        bottleneck = Bottleneck()
        bottleneck.has_rates = True
        super().__init__(bottleneck)
        self.latent_dim = embedding
        self.strides, self.cells = strides, cells
        self.kernels, self.depths, self.ratio, self.floor = tuple(kernels), tuple(depths), ratio, floor
        self.segment, self.chained, self.recipe = segment, chained, Recipe(**(recipe or {}))
        self.form = {
            "block": block, "activation": activation, "head": head, "embedding": embedding, "knot": knot,
            "time_levels": time_levels, "time_base": time_base, "time_width": time_width, "hidden": hidden,
            "stem_residual": stem_residual,
        }  # fmt: skip

    def architecture(self, height: int, width: int, frames: int, n_bytes: int) -> Architecture:
        """Return the architecture for a segment of so many bytes.

        Raises:
            ValueError: if they are too few for any.
        """
        finest = 2 if self.form["head"] == "yuv420" else 1
        grid, strides = choose_strides(height, width, finest, cells=self.cells)
        if self.strides is not None:
            strides, scale = tuple(self.strides), finest * prod(self.strides)
            grid = (-(-height // scale), -(-width // scale))
        n = len(strides)
        kernels, depths = (
            tuple(given[min(i, len(given) - 1)] for i in range(n)) for given in (self.kernels, self.depths)
        )
        parameters = round(8 * n_bytes / BITS_PER_PARAMETER)
        for floor in (self.floor, *(floor for floor in FLOORS if floor < self.floor)):
            empty = Architecture(grid, strides, (floor,) * (n + 1), kernels, depths, **self.form)  # type: ignore[arg-type]
            least = empty.n_parameters(frames)
            if least <= parameters:
                found = sized(empty, frames, parameters, self.ratio, floor)
                if fault := found.fault(height, width, frames):
                    raise ValueError(f"{fault}; expected fewer bytes")
                return found
        needed = round(least * BITS_PER_PARAMETER / 8)
        raise ValueError(f"{n_bytes} bytes are too few for {frames} frames of this size; expected {needed} or more")

    def settings(self, shape: Sequence[int], quality: float | None = None) -> Settings:
        """Return the settings of a quality, of a clip (f, h, w)."""
        exponent = ((50 if quality is None else quality) - 50) / QUALITIES_PER_OCTAVE
        frames, height, width = shape
        return Settings(round(MIDDLE_BPP * 2**exponent * frames * height * width / 8))

    def compress(  # type: ignore[override]
        self,
        x: Shaped[Tensor, "b f c h w"],
        *,
        quality: float | None = None,
        settings: Settings | None = None,
        rate: Fraction = Fraction(25),
        sections: Mapping[int, bytes] | None = None,
        depth: int = 8,
        flags: Flag = NO_FLAGS,
    ) -> bytes:
        """Return the bytes of one `.cdm` file; it takes minutes.

        Args:
            x: one clip, uint8, or float32 in [-1, 1].
            quality: 1 to 100; 50 is 0.03 bits per pixel, and 12.5 more are twice that.
            settings: in place of a quality.
            rate: frames per second.
            sections, depth, flags: carried in the file.
        """
        if x.dim() != 5 or x.shape[0] != 1 or x.shape[2] != 3 or 0 in x.shape:
            raise ValueError(f"expected one clip (1, f, 3, h, w), not empty; found {tuple(x.shape)}")
        pixels = x[0] if x.dtype == torch.uint8 else ((x[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        index = self.quality_index(quality) if settings is None else 0
        shape = (len(pixels), *pixels.shape[2:])
        wanted = settings or self.settings(shape, quality)
        encoding = Encoding(self, shape, wanted, cuts=cuts_of(pixels, self.segment))
        for segment in encoding.plan.segments:
            encoding.fit(segment, pixels[segment.start : segment.start + segment.frames])
        return encoding.finish(rate, index, sections, depth, flags)

    @torch.inference_mode()
    def decompress_file(
        self, file: File, dtype: torch.dtype, fast: bool = False, stages: int | None = None
    ) -> Shaped[Tensor, "1 f 3 h w"]:
        """Return the clip of a file that `bitstream.read` has parsed."""
        self.check_stages(stages)
        frames = torch.stack(list(self.frames(file)))[None]
        return frames if dtype == torch.uint8 else frames.float() / 127.5 - 1

    @torch.inference_mode()
    def frames(
        self, file: File, times: Sequence[float | int] | None = None, salvage: bool = False
    ) -> Iterator[UInt8[Tensor, "3 h w"]]:
        """Yield frames of a clip.

        Those of a segment that a salvaged file has lost are grey; between two segments the last frame stays.

        Args:
            file: parsed.
            times: which, in frames from the first, fractions between them; by default all frames.
            salvage: whether those of a segment whose bytes are damaged are grey too.

        Raises:
            BitstreamError: if the bytes are damaged.
            ValueError: for times that the clip does not have.
        """
        self.check_header(file.header)
        plan = plan_of(file)
        width, height, n = file.header.shape[:3]
        times = [float(time) for time in (range(n) if times is None else times)]
        outside = [time for time in times if not 0 <= time <= n - 1]
        if outside:
            raise ValueError(f"the clip has frames 0 to {n - 1}; found {outside[0]}")
        most = max(1, min(DECODED, NUMBERS // plan.architecture.features))
        networks, at = Networks(file, plan, self.device), 0
        while at < len(times):
            i = segment_at(plan, times[at])
            stop = at + 1
            while stop < min(len(times), at + most) and segment_at(plan, times[stop]) == i:
                stop += 1
            segment = plan.segments[i]
            try:
                network = networks[i]
            except BitstreamError:
                if not salvage:
                    raise
                network = None
            if network is None:
                yield from torch.full((stop - at, 3, height, width), GREY, dtype=torch.uint8, device=self.device)
            else:
                local = [min(segment.frames - 1, time - segment.start) for time in times[at:stop]]
                x_hat = network(torch.tensor(local, dtype=torch.float32, device=self.device))
                x_hat = x_hat[..., :height, :width].clamp(-1, 1)
                yield from ((x_hat + 1) * 127.5).round().to(torch.uint8)
            at = stop

    def read_latents(self, data: bytes | memoryview, stages: int | None = None) -> Float[Tensor, "1 d k h w"]:
        """Return the embeddings of all segments, along one axis of time, by entropy decoding alone."""
        self.check_stages(stages)
        file = bitstream.read(data)
        self.check_header(file.header)
        plan = plan_of(file)
        if not plan.architecture.embedding:
            raise ValueError(f"{self.name or 'this codec'} has no embeddings: its networks start from the time alone")
        networks = Networks(file, plan, self.device)
        parts = [networks[i] for i in range(len(plan.segments))]
        return torch.cat([part.embeddings for part in parts if part is not None]).transpose(0, 1)[None]

    def check_header(self, header: Header) -> None:
        """Refuse the header of a file of another codec.

        Raises:
            BitstreamError: says what the file holds.
        """
        if header.model != self.digest or header.kind != self.kind:
            raise BitstreamError(
                f"the file holds {header.kind} of {header.model.hex()}; {self.name} is {self.digest.hex()}"
            )


class Networks:
    """The networks of a file's segments; the last one is remembered, which the next may be chained to.

    Of a chain that leads to a segment only the integers are decoded: one network is made.
    """

    def __init__(self, file: File, plan: Plan, device: torch.device) -> None:
        self.file, self.plan, self.device = file, plan, device
        self.last: tuple[int, Quantized, VideoNetwork] | None = None

    def __getitem__(self, i: int) -> VideoNetwork | None:
        """Return the network of a segment; None if it, or one that it is chained to, is lost from a salvaged file.

        Raises:
            BitstreamError: if its bytes, or those that it is chained to, are damaged or missing.
        """
        if self.last is not None and self.last[0] == i:
            return self.last[2]
        segment, first = self.plan.segments[i], i
        while self.plan.segments[first].chained and not (self.last and self.last[0] == first - 1):
            first -= 1
        chunks = self.file.chunks[first + 1 : i + 2]
        if any(data is None for data in chunks) and self.file.damage:
            return None
        n = self.plan.architecture.n_parameters(segment.counted)
        for number, data in enumerate(chunks, first + 1):
            if data is None:
                raise BitstreamError(f"segment {number} is missing")
            if n > len(data) * bitstream.MAX_EXPANSION:
                raise BitstreamError(f"segment {number} has {len(data)} bytes for {n} parameters")
        network = VideoNetwork(self.plan.architecture, segment.counted).eval().requires_grad_(False)
        layout = Layout(network)
        found = self.last[1] if self.last and self.plan.segments[first].chained else None
        for data in chunks:
            assert data is not None
            found = read_quantized(data, layout.sizes, found)
        assert found is not None
        network.load_state_dict(layout.unflatten(found.values(layout.sizes)))
        network.to(self.device).to(memory_format=torch.channels_last)  # in which convolutions take a fifth less time
        self.last = (i, found, network)
        return network
