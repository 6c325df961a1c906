from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
import yaml
from codomain.codecs.cli import main
from codomain.codecs.load import build, load_weights

CONFIGS = Path(__file__).parents[2] / "configs" / "codecs"
CONFIG = """
model:
  class_path: codomain.tasks.adversarial.Adversarial
  init_args:
    codec:
      class_path: codomain.codecs.hificodec.HiFiCodec
      init_args:
        sample_rate: 16000
        latent_dim: 8
        bottleneck:
          class_path: codomain.codecs.group_rvq.GroupResidualVQ
          init_args: {channels: 8, groups: 2, stages: 2, codebook_size: 16, n_classes: 2}
        encoder:
          class_path: codomain.codecs.spectral.SpectralEncoder
          init_args: {latent_dim: 8, width: 16, hidden: 16, blocks: 1}
        decoder:
          class_path: codomain.codecs.spectral.SpectralDecoder
          init_args: {latent_dim: 8, n_fft: 640, width: 16, hidden: 16, blocks: 1}
    mel:
      class_path: codomain.codecs.losses.MelDistance
      init_args: {sample_rate: 16000, windows: [512], mels: [20]}
    discriminators:
      class_path: codomain.codecs.discriminators.Discriminators
      init_args: {periods: [2, 3], scales: 1, n_ffts: [256], width: 32, filters: 2}
    lr: 0.003
    warmup: 1
    quantize_after: 4
    adversarial_after: 0.5
data:
  class_path: codomain.tasks.recordings.Recordings
  init_args: {root: ., crop: 6400, val_crop: 6400, batch_size: 2, channels: 1, sample_rate: 16000}
trainer:
  max_steps: 20
  gradient_clip_val: null
"""


def test_a_run_quantizes_then_meets_its_discriminators_and_exports(tmp_path: Path) -> None:
    t = np.arange(48000) / 16000
    (tmp_path / "speech").mkdir()
    for i in range(3):
        soundfile.write(
            tmp_path / "speech" / f"{i}-a.wav", 0.3 * np.sin(2 * np.pi * (150 + 90 * i) * t) * (t % 0.5), 16000
        )
    (tmp_path / "small.yaml").write_text(CONFIG)
    run = tmp_path / "run"
    words = [
        "train", "--config", str(tmp_path / "small.yaml"), "--data", str(tmp_path / "speech"), "--run", str(run),
        "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1", "--trainer.accelerator=cpu",
        "--trainer.val_check_interval=10",
    ]  # fmt: skip
    assert main(words) == 0
    header, *lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]

    def column(name: str) -> list[float]:
        return [float(line[header.index(name)]) for line in lines if line[header.index(name)]]

    assert column("train/bottleneck")[:4] == [0.0] * 4
    assert min(column("train/bottleneck")[4:]) > 0
    assert len(column("train/discriminator")) == len(column("train/feature")) == 10
    assert len(set(column("train/discriminator"))) == 10
    assert 1 < column("train/perplexity_3")[-1] <= 16 * column("train/used_3")[-1] <= 16
    assert min(column("train/mel")[:10]) < 0.9 * column("train/mel")[0]
    codec = build(tmp_path / "small.yaml")
    load_weights(codec, (run / "weights.safetensors").read_bytes())
    x = 0.1 * torch.randn(1, 1, 5000)
    data = codec.compress(x, sample_rate=16000)
    assert codec.decompress(data, stages=1).shape == codec.decompress(data).shape == x.shape
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_steps"] == 20


def test_the_papers_configuration_trains(tmp_path: Path) -> None:
    t = np.arange(24000) / 24000
    for i in range(3):
        soundfile.write(tmp_path / f"{i}-a.wav", 0.3 * np.sin(2 * np.pi * (150 + 90 * i) * t) * (t % 0.5), 24000)
    paper, run = (CONFIGS / "hificodec_24k_paper.yaml").read_text(), tmp_path / "run"
    for whole, part in (
        ("width: 32", "width: 2"), ("width: 512", "width: 16"), ("512, strides", "8, strides"), ("m: 512\n", "m: 8\n"),
        ("channels: 512", "channels: 8"), ("1024, commitment", "16, commitment"), ("width: 1,", "width: 32,"),
        ("filters: 32", "filters: 1"), ("[2, 3, 5, 7, 11]", "[2, 3]"), ("[1024, 2048, 512, 256, 128]", "[512]"),
    ):  # fmt: skip
        assert whole in paper
        paper = paper.replace(whole, part)
    (tmp_path / "small.yaml").write_text(paper)
    words = [
        "train", "--config", str(tmp_path / "small.yaml"), "--data", str(tmp_path), "--run", str(run),
        "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1", "--trainer.accelerator=cpu",
        "--trainer.max_steps=3", "--data.crop=3200", "--data.val_crop=3200", "--data.batch_size=1",
    ]  # fmt: skip
    assert main(words) == 0
    header, *lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    for name in ("mel", "bottleneck", "discriminator", "feature", "perplexity_3"):  # all of it from the first step on
        values = [float(line[header.index(f"train/{name}")] or 0) for line in lines if line[header.index("train/mel")]]
        assert len(values) == 3 and min(values) > 0
    codec = build(tmp_path / "small.yaml")
    load_weights(codec, (run / "weights.safetensors").read_bytes())
    x = 0.1 * torch.randn(1, 1, 5000)
    assert codec.decompress(codec.compress(x, sample_rate=24000)).shape == x.shape
