"""Ptxas: what NVIDIA's assembler makes of a Triton kernel, for GPUs that need not be there.

A kernel is {module, kernel, signature: {argument: type}, constexprs: {argument: value}, num_warps, ...}, which JSON
holds: compiling happens in a process of its own, where Triton's interpreter is off whatever it is here.

    python -m codomain.kernels.ptxas CAPABILITY ...     a list of kernels on stdin -> a list of reports on stdout
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

ARCHITECTURES = {80: 163 * 1024, 90: 227 * 1024}  # compute capability -> bytes of shared memory that a block may have


def reports(kernels: Sequence[dict[str, Any]], capabilities: Sequence[int] = (80, 90)) -> list[dict[str, Any]]:
    """Return for every kernel and capability: registers of a thread, bytes spilled by it, shared bytes of a block.

    Raises:
        ValueError: if one does not compile; the last line of what the compiler says.
    """
    without = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "codomain.kernels.ptxas", *map(str, capabilities)],
        input=json.dumps(kernels), capture_output=True, text=True, env=without,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(f"a kernel does not compile: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _compile(kernel: dict[str, Any], capability: int) -> dict[str, Any]:
    """Compile one kernel; pointers are taken as divisible by 16, as torch allocates them."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(import_module(kernel["module"]), kernel["kernel"])
    constants = kernel.get("constexprs", {})
    given = {**kernel["signature"], **dict.fromkeys(constants, "constexpr")}
    signature = {name: given[name] for name in function.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    options = {name: kernel[name] for name in ("num_warps", "num_stages") if name in kernel}
    source = ASTSource(function, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptxas = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / "kernel.ptx"
        ptx.write_text(compiled.asm["ptx"])
        (target,) = re.findall(r"^\.target (\w+)", compiled.asm["ptx"], re.M)
        command = [str(ptxas), "-v", f"--gpu-name={target}", str(ptx), "-o", str(ptx.with_suffix(".cubin"))]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    stores, loads = (sum(map(int, re.findall(rf"(\d+) bytes spill {way}", report))) for way in ("stores", "loads"))
    return {
        "kernel": kernel["kernel"], "capability": capability, "num_warps": compiled.metadata.num_warps,
        "registers": int(re.findall(r"Used (\d+) registers", report)[0]), "spilled": stores + loads,
        "shared": compiled.metadata.shared, "shared_limit": ARCHITECTURES[capability],
    }  # fmt: skip


if __name__ == "__main__":
    given = json.load(sys.stdin)
    print(json.dumps([_compile(kernel, int(capability)) for kernel in given for capability in sys.argv[1:]]))
