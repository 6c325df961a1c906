"""Compile Triton kernels for GPUs that need not be there; a process of its own, without the interpreter.

stdin    a JSON list of {module, kernel, signature: {argument: type}, constexprs: {argument: value}, num_warps, ...}
stdout   a JSON list, one entry per kernel and architecture: registers, spilled and shared bytes, from ptxas
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

ARCHITECTURES = {80: 163 * 1024, 90: 227 * 1024}  # compute capability -> shared memory of one block


def compile_for_gpu(spec: dict[str, Any], capability: int) -> dict[str, Any]:
    """Compile one kernel; pointers are taken as divisible by 16, as torch allocates them."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(import_module(spec["module"]), spec["kernel"])
    constants = spec.get("constexprs", {})
    given = {**spec["signature"], **dict.fromkeys(constants, "constexpr")}
    signature = {name: given[name] for name in function.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    options = {name: spec[name] for name in ("num_warps", "num_stages") if name in spec}
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
        "kernel": spec["kernel"], "capability": capability, "num_warps": compiled.metadata.num_warps,
        "registers": int(re.findall(r"Used (\d+) registers", report)[0]), "spilled": stores + loads,
        "shared": compiled.metadata.shared, "shared_limit": ARCHITECTURES[capability],
    }  # fmt: skip


if __name__ == "__main__":
    specs = json.load(sys.stdin)
    print(json.dumps([compile_for_gpu(spec, capability) for spec in specs for capability in ARCHITECTURES]))
