"""Fit: a video network learns one segment by heart, within a number of bytes.

    loss = mean of ln(mse of a frame), or another distortion, + price * bits per number

Every number is rounded but for a short while at the start, and its bits are in the loss (`WeightBottleneck`). Their
price grows while they are more than wanted, and falls while they are fewer; what is wanted goes from the bits at the
start to those that are asked for in the first half of the run. Towards the end they are held against what the integers
take in a file, and in the last percents the steps stand still. So a fit ends at its size, whatever the clip is.

Embeddings may come from an encoder of the frames at first (`FrameEncoder`); then they are numbers as the others.

Sources: Zhang et al., "Boosting neural representations for videos with a conditional decoder", 2024, sections 3.3 and
3.4; that the rate belongs into the loss early: Kwan et al., "NVRC", 2024, table 3.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from codomain.codecs.distortion import Distortion
from codomain.codecs.nerv import VideoNetwork
from codomain.codecs.nerv_encoder import FrameEncoder
from codomain.codecs.weight_bottleneck import PER_OCTAVE, Quantized, WeightBottleneck
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.func import functional_call

MARGIN = 0.985  # of the bits: what tables cost beyond the price, until it is measured
START_PRICE = math.exp(-4.6)
GAIN, LEAST_GAIN = 25.0, 0.02  # of the price: for a whole run, and for a step
DAMPING = 2.0  # of the price, which would else fall and rise in turn
MEASURED_FROM, MEASURED_EVERY = 0.8, 0.02  # shares of the run in which the length in a file is looked at
AIM = 1.002  # of the length in a file, to what is wanted
SQUEEZES, SQUEEZE_STEPS = 16, 8
COARSEST = 256
PAUSE = 1.0  # seconds after which a watcher is told again
ENCODED = 8  # frames at a time


@dataclass(frozen=True)
class Recipe:
    """How a fit goes.

    Attributes:
        lr, step_lr: peak rates of Adam, of the numbers and of the logarithms of their steps; cosine decay to 0.
        batch: frames a step.
        warmup: share of the run in which the rates grow.
        rate_from, rate_by: shares of the run after which bits count, and after which they are as wanted.
        polish: share of the run, at its end, in which steps stand still.
        encoder: width of the encoder that makes the embeddings; 0 for none.
        encoder_until: share of the run after which embeddings are free of it.
        encoder_lr: peak rate of Adam, of the encoder.
        distortion: weights of its terms, see `Distortion`.
    """

    lr: float = 5e-3
    step_lr: float = 2e-2
    batch: int = 2
    warmup: float = 0.03
    rate_from: float = 0.1
    rate_by: float = 0.5
    polish: float = 0.05
    encoder: int = 0
    encoder_until: float = 0.5
    encoder_lr: float = 1e-3
    distortion: dict[str, float] = field(default_factory=lambda: {"log_mse": 1.0})


@dataclass
class Fitting:
    """Where a fit is: what a watcher is told, and a checkpoint holds.

    Attributes:
        steps, seconds: that it has taken.
        done: share of the run.
        price: logarithm of what a bit costs.
        start_bits: when bits began to count.
        scale: bits in a file, to those that are priced.
        is_free: whether no encoder makes the embeddings any more.
        bits, psnr: of the last steps, an estimate.
    """

    steps: int = 0
    seconds: float = 0.0
    done: float = 0.0
    price: float = math.log(START_PRICE)
    start_bits: float = 0.0
    scale: float = 1 / MARGIN
    is_free: bool = False
    bits: float = 0.0
    psnr: float = 0.0


class Fit:
    """One network and its segment.

    Args:
        network: untrained.
        x: the frames.
        n_bytes: of the segment in the file.
        recipe: how.
        epochs, seconds: when it ends; one of them.
        before: integers of the segment before, to start from and to code differences to.
        mask: pixels that count; by default all.
        seed: of the order of frames.
    """

    def __init__(
        self,
        network: VideoNetwork,
        x: UInt8[Tensor, "f 3 h w"],
        n_bytes: int,
        recipe: Recipe,
        epochs: float | None = None,
        seconds: float | None = None,
        before: Quantized | None = None,
        mask: Bool[Tensor, "f h w"] | None = None,
        seed: int = 0,
    ) -> None:
        if (epochs is None) == (seconds is None):
            raise ValueError(f"a fit ends after epochs or after seconds; found {epochs} and {seconds}")
        if not (epochs or seconds or 0) > 0:
            raise ValueError(f"a fit takes more than no time; found {epochs} epochs, {seconds} seconds")
        self.network, self.x, self.recipe, self.mask = network, x, recipe, mask
        self.epochs, self.duration = epochs, seconds
        self.layout = Layout(network)
        self.weights = WeightBottleneck(self.layout.flatten(network), self.layout.sizes, before)
        self.n_bytes, self.before = n_bytes, before
        self.codes = len(self.layout.sizes) * (2 if before is None else 1)
        self.distortion = Distortion(recipe.distortion)
        self.optimizer = torch.optim.Adam(
            [{"params": [self.weights.values], "lr": 0.0}, {"params": [self.weights.log_steps], "lr": 0.0}],
            betas=(0.9, 0.99),
        )
        self.kept: Quantized | None = None
        self.encoder: FrameEncoder | None = None
        self.state = Fitting()
        if network.architecture.embedding and recipe.encoder and before is None:
            self.encoder = FrameEncoder(network.architecture, recipe.encoder)
            self.optimizer.add_param_group({"params": list(self.encoder.parameters()), "lr": 0.0})
        self.generator = torch.Generator().manual_seed(seed)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield all that is learned: the numbers, their steps, and the encoder, while it makes embeddings."""
        yield from self.weights.named_parameters()
        if self.encoder is not None and not self.state.is_free:
            yield from self.encoder.named_parameters("encoder")

    def run(self, watch: Callable[[Fitting], None]) -> None:
        """Train to the end; ``watch`` is told every second and after every pass, and may raise to stop."""
        began = time.monotonic() - self.state.seconds
        told = self.state.seconds
        per_epoch = -(-len(self.x) // self.recipe.batch)
        while self.state.done < 1:
            for batch in torch.randperm(len(self.x), generator=self.generator).split(self.recipe.batch):
                measured = self._measurements()
                self.state.seconds = time.monotonic() - began
                if self.duration is not None:
                    self.state.done = min(1.0, self.state.seconds / self.duration)
                else:
                    assert self.epochs is not None
                    self.state.done = min(1.0, self.state.steps / (self.epochs * per_epoch))
                if self._measurements() > measured:
                    self._measure()
                if self.state.done >= 1:
                    break
                if self.state.seconds - told > PAUSE:
                    told = self.state.seconds
                    watch(self.state)
                self.step(batch)
            watch(self.state)

    def step(self, batch: Tensor) -> None:
        """Learn from some frames."""
        state, recipe, done = self.state, self.recipe, self.state.done
        counts = done >= recipe.rate_from
        warm, fade = min(1.0, done / recipe.warmup + 0.02), 0.5 + 0.5 * math.cos(math.pi * done)
        polishes = done >= 1 - recipe.polish
        rates = (
            recipe.lr * warm * fade + 1e-6,
            recipe.step_lr * (0.9 * warm * fade + 0.1) * (counts and not polishes),
            recipe.encoder_lr * warm * fade,
        )
        for group, rate in zip(self.optimizer.param_groups, rates, strict=False):
            group["lr"] = rate
        if done >= recipe.encoder_until:
            self._release()
        t = batch.float()
        self.optimizer.zero_grad(set_to_none=True)
        encoded = self._encode(t)
        values, bits = self.weights(rounded=counts)
        x = self.x[batch].float() / 127.5 - 1
        loss, mse = self.distortion(self.frames(values, t), x, None if self.mask is None else self.mask[batch])
        if counts:
            found = float(bits.detach())
            gain = max(LEAST_GAIN, GAIN * done / max(1, state.steps))
            above = min(1.0, found / self._wanted(found) - 1)
            state.price = min(3.0, max(-9.0, state.price + min(0.3, max(-0.3, gain * above))))
            loss = loss + math.exp(state.price + DAMPING * above) * bits / len(values)
        loss.backward()
        if encoded is not None:
            assert self.weights.values.grad is not None
            knots, made = encoded
            gradients = self.layout.unflatten(self.weights.values.grad)["embeddings"]
            made.backward(gradients[knots])
            gradients.zero_()
        self.optimizer.step()
        state.steps += 1
        psnr = float(10 * torch.log10(4 / mse.detach().clamp_min(1e-9)).mean())
        kept = 0.95 if state.psnr else 0.0
        state.bits, state.psnr = float(bits.detach()), kept * state.psnr + (1 - kept) * psnr

    def _wanted(self, found: float) -> float:
        """Bits by now, as they are priced: geometrically from those at the start to those at the end."""
        if not self.state.start_bits:
            self.state.start_bits = found
        share = min(1.0, (self.state.done - self.recipe.rate_from) / (self.recipe.rate_by - self.recipe.rate_from))
        wanted = max(64.0, 8 * (self.n_bytes - self.codes)) / self.state.scale
        return float(self.state.start_bits ** (1 - share) * wanted**share)

    def _measurements(self) -> int:
        """Return how often the length in a file is looked at by now."""
        return max(0, 1 + math.floor((self.state.done - MEASURED_FROM) / MEASURED_EVERY))

    def _measure(self) -> None:
        """Hold the price against the length in a file; keep the integers, if they fit and their steps stand still."""
        found = self.weights.quantized()
        length = self._length(found)
        with torch.no_grad():
            priced = float(self.weights()[1])
        self.state.scale = AIM * 8 * max(8, length - self.codes) / max(64.0, priced)
        if length <= self.n_bytes and self.state.done >= 1 - self.recipe.polish:
            self.kept = found

    def _encode(self, t: Float[Tensor, " b"]) -> tuple[Int64[Tensor, " k"], Float[Tensor, "k e h w"]] | None:
        """Put into the numbers what the encoder makes of the knots around some times; return which, and it."""
        if self.encoder is None or self.state.is_free:
            return None
        low, high, share = self.network.around(t)
        knots = torch.cat((low[share < 1], high[share > 0])).unique()
        at = (knots * self.network.architecture.knot).clamp(max=len(self.x) - 1)
        x = self.x[at].float() / 127.5 - 1
        made: Tensor = self.encoder(x if self.mask is None else x * self.mask[at, None])
        with torch.no_grad():
            self.layout.unflatten(self.weights.values)["embeddings"][knots] = made
        return knots, made

    @torch.no_grad()
    def _release(self) -> None:
        """Let the embeddings be numbers as the others, from those that the encoder makes now."""
        if not self.state.is_free:
            for t in torch.arange(0.0, self.network.knots).mul(self.network.architecture.knot).split(ENCODED):
                self._encode(t)
        self.state.is_free = True

    def frames(self, values: Float[Tensor, " n"], t: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
        """Return frames of the network with other numbers, of the clip's size."""
        h, w = self.x.shape[2:]
        x_hat: Tensor = functional_call(self.network, self.layout.unflatten(values), (t,))
        return x_hat[..., :h, :w]

    def squeeze(self) -> Quantized:
        """Return the integers, within their bytes: those of the end, or those of the polish, or coarser ones.

        A fit that was broken off takes some steps at a higher price first. Steps grow, or, where they are those of the
        network before, differences to it shrink.

        Raises:
            ValueError: if none are coarse enough.
        """
        self._release()
        if self.state.done < 1:
            self._hurry()
        found = self.weights.quantized()
        if self._length(found) <= self.n_bytes:
            return found
        if self.kept is not None:
            return self.kept
        fine, coarse = 0, COARSEST
        while coarse - fine > 1:
            middle = (fine + coarse) // 2
            fits = self._length(self._coarser(middle)) <= self.n_bytes
            fine, coarse = (fine, middle) if fits else (middle, coarse)
        found = self._coarser(coarse)
        if self._length(found) > self.n_bytes:
            raise ValueError(f"found no network of {self.n_bytes} bytes for a segment; it has {self._length(found)}")
        return found

    def _hurry(self) -> None:
        """Take some steps at higher and higher prices, until the integers fit."""
        for _ in range(SQUEEZES):
            if self._length(self.weights.quantized()) <= self.n_bytes:
                return
            self.state.price += 0.25
            for batch in torch.randperm(len(self.x), generator=self.generator).split(self.recipe.batch)[:SQUEEZE_STEPS]:
                self.step(batch)

    def _coarser(self, level: int) -> Quantized:
        """Return coarser integers, 0 to `COARSEST`."""
        found = self.weights.quantized()
        if self.before is None:
            with torch.no_grad():
                held = self.weights.log_steps.clone()
                self.weights.log_steps.add_(level / PER_OCTAVE)
                found = self.weights.quantized()
                self.weights.log_steps.copy_(held)
            return found
        kept = np.rint((found.integers - self.before.integers) * (1 - level / COARSEST)).astype(np.int32)
        return Quantized(self.before.integers + kept, found.steps)

    def _length(self, found: Quantized) -> int:
        return len(found.to_bytes(self.layout.sizes, None if self.before is None else self.before.integers))


class Layout:
    """Where the parameters of a network lie in one vector, and in which groups.

    A parameter is a group, an embedding's channel is one.

    Attributes:
        sizes: of the groups.
    """

    def __init__(self, network: VideoNetwork) -> None:
        self.shapes = {name: p.shape for name, p in network.named_parameters()}
        self.sizes: list[int] = []
        for name, shape in self.shapes.items():
            n = shape[1] if name == "embeddings" else 1
            self.sizes += [shape.numel() // n] * n

    def flatten(self, network: VideoNetwork) -> Float[Tensor, " n"]:
        """Return the parameters as one vector."""
        parts = [
            p.detach().transpose(0, 1) if name == "embeddings" else p.detach() for name, p in network.named_parameters()
        ]
        return torch.cat([part.flatten() for part in parts])

    def unflatten(self, values: Float[Tensor, " n"]) -> dict[str, Tensor]:
        """Return the parameters by name."""
        parts = values.split([shape.numel() for shape in self.shapes.values()])
        return {
            name: part.view(shape[1], shape[0], *shape[2:]).transpose(0, 1)
            if name == "embeddings"
            else part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
