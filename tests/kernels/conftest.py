from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where Triton kernels run: a GPU where there is one, else the CPU, in the interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def compile_for_gpu() -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Compile kernels for sm_80 and sm_90 in a process without the interpreter; a report for each."""
    from codomain.kernels.ptxas import reports

    return reports
