"""Read: transcribe lines of text, from the latents that their files hold, or from pixels.

    y --less its mean, over one deviation--> Isotropic --a column to some steps--> GELU, linear --> scores --CTC--> text

All channels share one deviation: latents of packets are nearly orthogonal, so a weak channel is one that says little,
and its noise at full strength drowns type.
Columns of the latent grid are wider than small type, so a linear layer makes several steps of each. The pixel baselines
are the same task and the same network: `configs/tasks/read_pixels.yaml` has as many tokens as the latents,
`read_pixels_small.yaml` as many values as 4x latents.

Source: Graves et al., "Connectionist Temporal Classification", 2006.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from codomain.tasks.learner import Learner
from codomain.tasks.text_lines import ALPHABET, Lines
from jaxtyping import Float, Int
from torch import Tensor, nn

BLANK = 0  # the class of no character; others are one more than their place in `ALPHABET`


class Read(Learner):
    """Training of a reader; the data says of how many channels and rows.

    Args:
        steps: of CTC per column of tokens.
        settings: as of `Learner`.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, steps: int = 4, **settings: Any) -> None:
        super().__init__(**settings)
        self.steps = steps

    def build(self, about: dict[str, Any]) -> None:
        """Make the network, about channels, rows of positions, steps and alphabet.

        Raises:
            ValueError: for another alphabet than `ALPHABET`.
        """
        if about["alphabet"] != ALPHABET:
            raise ValueError(f"reads {about['alphabet']!r}; expected {ALPHABET!r}")
        self.about, self.steps = about, about["steps"]
        channels = about["channels"]
        self.network = self.isotropic(channels)
        width = self.network.width
        rows = -(-about["rows"] // self.network.patch)
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Linear(rows * width, self.steps * width)
        self.head = nn.Linear(width, 1 + len(ALPHABET))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(()))

    def setup(self, stage: str) -> None:
        """Make the network for the data of this run, and count its mean and deviation."""
        if not self.about:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            form = {"channels": data.channels, "rows": data.grid[0], "steps": self.steps, "alphabet": ALPHABET}
            self.build({**form, "data": data.describe()})
            self.mean, self.deviation = data.statistics()

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b t k"]:
        """Return scores of the classes, step by step from the left."""
        tokens = self.network((x - self.mean[:, None, None]) / self.deviation)
        tokens = self.norm(tokens.movedim(1, -1)).transpose(1, 2).flatten(2)  # b, columns, rows * width
        hidden = F.gelu(self.spread(tokens).unflatten(2, (self.steps, -1)), approximate="tanh").flatten(1, 2)
        scores: Tensor = self.head(hidden)
        return scores

    def training_step(self, batch: Lines, batch_idx: int) -> Tensor:
        """CTC loss, per character."""
        loss = self._loss(self(batch.x), batch.texts)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.x))
        return loss

    def validation_step(self, batch: Lines, batch_idx: int) -> None:
        """Loss, and the character error rate: edits over characters, of all lines together."""
        scores = self(batch.x)
        n = sum(map(len, batch.texts))
        edits = sum(edit_distance(said, text) for said, text in zip(transcribe(scores), batch.texts, strict=True))
        self.log_dict(
            {"val/loss": self._loss(scores, batch.texts), "val/cer": torch.tensor(edits / n, dtype=torch.float32)},
            prog_bar=True, batch_size=n, sync_dist=True,
        )  # fmt: skip

    def answer(self, x: Float[Tensor, "1 d h w"]) -> dict[str, Any]:
        """Return the text of a line.

        Raises:
            ValueError: for a line of another height.
        """
        if x.shape[2] != self.about["rows"]:
            raise ValueError(
                f"{x.shape[2]} rows of positions; the checkpoint learnt from lines of {self.about['rows']}"
            )
        return {"text": transcribe(self(x))[0]}

    def _loss(self, scores: Float[Tensor, "b t k"], texts: tuple[str, ...]) -> Tensor:
        """CTC loss per character; a line too narrow for its text, which no steps could tell, counts as none."""
        labels = torch.cat([to_labels(text) for text in texts])
        lengths = torch.tensor([len(text) for text in texts])
        steps = torch.full_like(lengths, scores.shape[1])
        chances = scores.log_softmax(2).transpose(0, 1)
        return (
            F.ctc_loss(chances, labels.to(scores.device), steps, lengths, BLANK, "sum", zero_infinity=True)
            / lengths.sum()
        )


def to_labels(text: str) -> Int[Tensor, " n"]:
    """Return the class of each character.

    Raises:
        ValueError: for a character that is not in `ALPHABET`.
    """
    unknown = sorted(set(text) - set(ALPHABET))
    if unknown:
        raise ValueError(f"{text!r} has characters that cannot be read: {' '.join(unknown)}")
    return torch.tensor([1 + ALPHABET.index(c) for c in text], dtype=torch.int64)


def transcribe(scores: Float[Tensor, "b t k"]) -> list[str]:
    """Return the texts of the best classes of all steps: repetitions count once, blanks part them."""
    texts = []
    for line in scores.argmax(2).cpu():
        labels = torch.unique_consecutive(line).tolist()
        texts.append("".join(ALPHABET[label - 1] for label in labels if label != BLANK))
    return texts


def edit_distance(a: str, b: str) -> int:
    """Return how many characters must be inserted, deleted or replaced to make one text of the other (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, from_a in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, from_b in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (from_a != from_b))
    return row[-1]
