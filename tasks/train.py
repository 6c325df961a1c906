"""Train: Lightning's command line with this project's defaults, for codecs and for what learns from their files.

A config may name its task and its data by ``class_path``; without, they are `Reconstruct` and `Photographs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from codomain.codecs.codec import Codec
from codomain.codecs.load import save_weights
from codomain.tasks.photographs import Photographs
from codomain.tasks.reconstruct import Reconstruct
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI


class Export(L.Callback):
    """Write what a run is for into its folder, whenever training ends.

    Of a codec, ``weights.safetensors``, which `load` reads; of another task, ``model.ckpt``, without the optimizer.
    """

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Export."""
        assert trainer.log_dir is not None
        codec = getattr(module, "codec", None)
        if not isinstance(codec, Codec):
            trainer.save_checkpoint(Path(trainer.log_dir) / "model.ckpt", weights_only=True)
            return
        samples = trainer.datamodule.table_dataloader()  # type: ignore[attr-defined]
        codec.cpu().eval()
        with torch.no_grad():
            y = [codec.analysis(x)[0] for x in samples]
        codec.bottleneck.freeze_tables(y)
        path = Path(trainer.log_dir) / "weights.safetensors"
        print(f"{path}  sha256 {save_weights(codec, path)}")


class _CLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults({"seed_everything": 0})


def train(configs: list[Path], data: Path, run: Path, resume: bool, overrides: list[str]) -> None:
    """Train a codec, or a task on what it stores; checkpoints, metrics, and what is exported lie in ``run``.

    Args:
        configs: later files win over earlier ones.
        data: folder of photographs, or of what else the config's data module reads: `.cdm` files, a shard.
        run: folder of this run.
        resume: continue from the last checkpoint in ``run``.
        overrides: further settings, ``--model.lmbda=0.02 --trainer.max_steps=20000 ...``.
    """
    last = run / "checkpoints" / "last.ckpt"
    if last.exists() and not resume:
        raise ValueError(f"{run} holds a run already: continue it with --resume, or choose another --run")
    if resume and not last.exists():
        raise ValueError(f"nothing to resume: {last} does not exist")
    arguments: ArgsType = [
        "fit",
        *(word for config in configs for word in ("--config", str(config))),
        f"--data.root={data}",
        *overrides,
        *([f"--ckpt_path={last}"] if resume else []),
    ]
    named = {part: any("class_path" in _part(config, part) for config in configs) for part in ("model", "data")}
    _CLI(
        L.LightningModule if named["model"] else Reconstruct,
        L.LightningDataModule if named["data"] else Photographs,
        subclass_mode_model=named["model"],
        subclass_mode_data=named["data"],
        args=arguments,
        parser_kwargs={"fit": {"prog": "codomain train"}},
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": str(run), "name": "", "version": ""},
            },
            "callbacks": [
                ModelCheckpoint(run / "checkpoints", every_n_train_steps=250, save_last=True, save_top_k=1),
                LearningRateMonitor(),
                Export(),
            ],
            "val_check_interval": 500,
            "check_val_every_n_epoch": None,
            "gradient_clip_val": 1.0,
            "max_epochs": -1,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 50,
        },
    )


def _part(config: Path, part: str) -> dict[str, Any]:
    """What a config says of the model or the data."""
    try:
        settings = yaml.safe_load(config.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{config}: no YAML: {' '.join(str(error).split())}") from None
    return settings.get(part) or {} if isinstance(settings, dict) else {}
