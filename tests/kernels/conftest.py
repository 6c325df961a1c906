from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the first import of triton: its kernels then run on CPU tensors


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where Triton kernels run: a GPU where there is one, else the CPU, in the interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def compile_for_gpu() -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Compile kernels for sm_80 and sm_90 in a process without the interpreter; a report for each."""

    def compile(specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        without = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        script = Path(__file__).with_name("compile_for_gpu.py")
        done = subprocess.run(
            [sys.executable, str(script)], input=json.dumps(specs), capture_output=True, text=True, env=without
        )
        assert done.returncode == 0, done.stderr
        reports: list[dict[str, Any]] = json.loads(done.stdout)
        return reports

    return compile
