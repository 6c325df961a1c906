from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from codomain.codecs.group_rvq import GroupResidualVQ


def vectors(b: int = 4, d: int = 8, t: int = 200, seed: int = 0) -> torch.Tensor:
    return torch.randn(b, d, t, generator=torch.Generator().manual_seed(seed))


def started(groups: int = 2, stages: int = 2, k: int = 32) -> GroupResidualVQ:
    quantizer = GroupResidualVQ(8, groups, stages, k)
    quantizer.start(vectors(seed=1))
    return quantizer


@pytest.mark.parametrize(("groups", "stages"), [(1, 1), (1, 3), (2, 2), (4, 1)])
def test_codes_decode_to_what_forward_gives(groups: int, stages: int) -> None:
    quantizer = started(groups, stages).eval()
    y = vectors()
    symbols = quantizer.to_symbols(y)
    assert symbols.shape == (4, groups * stages, 200)
    assert torch.allclose(quantizer.from_symbols(symbols), quantizer(y).y_hat, atol=1e-6)


def test_codes_are_the_nearest_of_every_stage() -> None:
    quantizer = started().eval()
    y = vectors()
    symbols = quantizer.to_symbols(y)
    for g in range(2):
        residual = y[:, 4 * g : 4 * g + 4].movedim(1, -1).double()
        for s in range(2):
            book = quantizer.codebooks[g, s].double()
            nearest = (residual[..., None, :] - book).square().sum(-1).argmin(-1)
            assert torch.equal(symbols[:, 2 * s + g], nearest.int())
            residual = residual - book[nearest]


def test_every_stage_brings_the_latents_nearer() -> None:
    quantizer = started(2, 3).eval()
    y = vectors(seed=1)
    symbols = quantizer.to_symbols(y)
    errors = [float((quantizer.from_symbols(symbols[:, : 2 * s]) - y).square().mean()) for s in (1, 2, 3)]
    assert errors[2] < 0.6 * errors[1] < 0.36 * errors[0]


def test_gradients_are_identity_and_every_commitment() -> None:
    quantizer = started().eval()
    y = vectors(1).requires_grad_()
    y_hat, _, loss = quantizer(y)
    (through,) = torch.autograd.grad(y_hat.sum(), y, retain_graph=True)
    assert torch.equal(through, torch.ones_like(y))
    (drawn,) = torch.autograd.grad(loss, y)
    symbols = quantizer.to_symbols(y.detach())
    first, both = quantizer.from_symbols(symbols[:, :2]), quantizer.from_symbols(symbols)
    expected = 0.25 / 2 * 2 * ((y - first) + (y - both)).detach() / y.numel()
    assert torch.allclose(drawn, expected, atol=1e-7)


def test_codes_that_nobody_chooses_are_replaced_and_chosen() -> None:
    quantizer = started(1, 1).train()
    quantizer.codebooks[0, 0, :8] = 1000.0
    quantizer.sums[0, 0, :8], quantizer.counts[0, 0, :8] = 1000.0, 0.05
    y = vectors(seed=3)
    quantizer(y)
    assert quantizer.codebooks.abs().max() < 10
    chosen = quantizer.to_symbols(y).unique().tolist()
    assert set(range(8)) <= set(chosen)


def test_codebooks_follow_what_chooses_them() -> None:
    torch.manual_seed(0)
    quantizer = GroupResidualVQ(2, codebook_size=4, decay=0.5)
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    quantizer.codebooks[0, 0] = centres + 1
    quantizer.sums[0, 0], quantizer.counts[0, 0] = centres + 1, 1.0
    rows = centres.repeat(50, 1) + 0.01 * torch.randn(200, 2)
    for _ in range(20):
        quantizer.train()(rows.T[None])
    assert torch.allclose(quantizer.codebooks[0, 0], centres, atol=0.02)
    assert float(quantizer.statistics()["used_0"]) == 1.0
    assert float(quantizer.statistics()["perplexity_0"]) == pytest.approx(4, abs=1e-4)


def test_plain_vq_leaves_codes_that_nobody_chooses_where_they_are() -> None:
    quantizer = GroupResidualVQ(8, codebook_size=16, decay=0.0, reset_below=0.0, kmeans_steps=0)
    quantizer.start(vectors(seed=1))
    quantizer.codebooks[0, 0, :4] = quantizer.sums[0, 0, :4] = 1000.0
    for seed in range(3):
        quantizer.train()(vectors(seed=seed))
    assert torch.equal(quantizer.codebooks[0, 0, :4], torch.full((4, 8), 1000.0))
    assert torch.isfinite(quantizer.codebooks).all()
    assert float(quantizer.statistics()["used_0"]) <= 0.75


def test_padding_counts_for_nothing() -> None:
    y = vectors(2, t=50)
    mask = torch.ones(2, 50, dtype=torch.bool)
    mask[1, 20:] = False
    padded = y.clone()
    padded[1, :, 20:] = 77.0
    results = []
    for batch in (y, padded):
        quantizer = started(1, 2).train()
        loss = quantizer(batch, mask=mask).loss
        results.append((loss, quantizer.codebooks.clone(), quantizer.counts.clone()))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_stage_dropout_uses_fewer_stages() -> None:
    quantizer = GroupResidualVQ(8, 1, 4, 16, stage_dropout=1.0).train()
    torch.manual_seed(0)
    bits = {float(quantizer(vectors(1)).bits[0]) for _ in range(30)}
    assert bits == {200.0 * 4 * s for s in (1, 2, 3, 4)}


def test_payloads_of_the_first_stages_decode_alone() -> None:
    quantizer = started().eval()
    quantizer.freeze_tables([vectors(seed=5)[0]])
    symbols = quantizer.to_symbols(vectors(1))[0].numpy()
    payloads = quantizer.encode(symbols)
    assert len(payloads) == quantizer.layers == 2
    assert np.array_equal(quantizer.decode(payloads, (200,)), symbols)
    assert np.array_equal(quantizer.decode(payloads[:1], (200,)), symbols[:2])
    other = GroupResidualVQ(8, 2, 2, 32)
    with pytest.raises(ValueError, match="no tables yet"):
        other.encode(symbols)
    other.freqs = torch.zeros_like(quantizer.freqs)
    other.load_state_dict(quantizer.state_dict())
    assert other.encode(symbols) == payloads


def test_bad_arguments_are_one_line() -> None:
    with pytest.raises(ValueError, match="multiple of groups; found 8 and 3"):
        GroupResidualVQ(8, 3)
    with pytest.raises(ValueError, match="finite"):
        started().to_symbols(torch.full((1, 8, 2), float("nan")))
    with pytest.raises(ValueError, match="expected latents of samples"):
        started().freeze_tables()


RANK = """
import sys, torch, torch.distributed as dist
from codomain.codecs.group_rvq import GroupResidualVQ

rank, port, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
quantizer = GroupResidualVQ(8, 1, 1, 16)
quantizer.start(torch.load(path)[0])
dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
for y in torch.load(path)[1:]:
    quantizer.train()(y[2 * rank : 2 * rank + 2])
torch.save(quantizer.codebooks, f"{path}.{rank}")
dist.barrier()
"""


def test_ranks_agree_on_the_codebooks(tmp_path: Path) -> None:
    batches = [vectors(seed=1), *(vectors(4, seed=10 + step) for step in range(3))]
    torch.save(batches, tmp_path / "batches")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(port), str(tmp_path / "batches")])
        for rank in (0, 1)
    ]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    books = [torch.load(tmp_path / f"batches.{rank}") for rank in (0, 1)]
    alone = started(1, 1, 16).train()
    for y in batches[1:]:
        alone(y)
    assert torch.equal(books[0], books[1])
    assert torch.allclose(books[0], alone.codebooks, atol=1e-5)
