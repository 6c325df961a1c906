from __future__ import annotations

import os
from collections.abc import Callable
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
    from codomain.kernels.ptxas import reports

    return reports
