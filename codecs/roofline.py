"""Roofline: the times that the Triton kernels are predicted to take on an H100 SXM, where none can be measured.

    predicted = max(memory, arithmetic, latency)

    memory       bytes that must move / bandwidth of the memory
    arithmetic   operations of the tiles as they are padded / rate of the units that do them, tensor cores or others;
                 longer by the share of processors without a block in the last round
    latency      rounds of blocks, one after the other, as many as registers and shared memory of the compiled kernel
                 let stay at once; in each the loads that wait for one another

Nothing here is measured. Address arithmetic, barriers, what spills, and the launch are not in it: kernels take longer,
on the H100 of the README the lookups twenty times and more. Williams, Waterman, Patterson, "Roofline", CACM 2009.
"""

from __future__ import annotations

from math import ceil
from typing import Any, NamedTuple

# "NVIDIA H100 Tensor Core GPU" data sheet, SXM: dense rates, half of those that it gives with sparsity
BANDWIDTH = 3.35e12  # bytes per second
RATES = {"fp32": 67e12, "tf32": 495e12, "fp16": 990e12}  # operations per second
# "NVIDIA H100 Tensor Core GPU Architecture" and the CUDA C++ programming guide, compute capability 9.0
PROCESSORS = 132
REGISTERS, SHARED, WARPS, BLOCKS = 65536, 228 * 1024, 64, 32  # of a processor
RESERVED = 1024  # shared bytes of every block that the system takes
# Ultrasonics Sonochemistry 99, 106546 (2023), table 3: Hopper
CLOCK, FAR, NEAR = 1.755e9, 200, 20  # Hz; cycles to the L2 cache, and to shared memory or the L1 cache
PLANE = (1024, 1536)


class Launch(NamedTuple):
    """One kernel of one operation, and what it has to do."""

    operation: str
    kernel: dict[str, Any]  # as `kernels/ptxas.py` takes it
    programs: int
    moved: float  # bytes
    flop: dict[str, float]  # of each rate, of all programs; units of different rates work at once
    chain: float  # cycles of a program's loads that wait for one another


def predict(subject: str) -> list[dict[str, Any]]:
    """Return a row for every kernel of "wpt", "vq" or "rans".

    Raises:
        ValueError: for another subject, or if a kernel does not compile.
    """
    if subject not in LAUNCHES:
        raise ValueError(f"a roofline is of the kernels of {', '.join(LAUNCHES)}; found {subject}")
    from codomain.kernels.ptxas import reports

    launches = LAUNCHES[subject]()
    return [_row(*pair) for pair in zip(launches, reports([launch.kernel for launch in launches], [90]), strict=True)]


def resident(registers: int, shared: int, warps: int) -> int:
    """Return how many blocks stay on a processor at once; a warp has registers in units of 256."""
    by_registers = REGISTERS // (ceil(32 * registers / 256) * 256 * warps)
    return min(by_registers, SHARED // (shared + RESERVED), WARPS // warps, BLOCKS)


def _row(launch: Launch, report: dict[str, Any]) -> dict[str, Any]:
    blocks = resident(report["registers"], report["shared"], report["num_warps"])
    busy = launch.programs / PROCESSORS / ceil(launch.programs / PROCESSORS)
    waves = launch.programs / (PROCESSORS * blocks)
    times = {
        "memory": launch.moved / BANDWIDTH,
        "arithmetic": max((flop / RATES[unit] for unit, flop in launch.flop.items()), default=0) / busy,
        "latency": ceil(waves) * launch.chain / CLOCK,
    }
    bound = max(times, key=lambda name: times[name])
    return {
        "operation": launch.operation, "predicted": True, "predicted_ms": 1e3 * times[bound], "bound": bound,
        **{f"{name}_ms": 1e3 * seconds for name, seconds in times.items()},
        **{name: report[name] for name in ("registers", "spilled", "shared")},
        "blocks": blocks, "occupancy": blocks * report["num_warps"] / WARPS, "waves": waves,
    }  # fmt: skip


def _packets() -> list[Launch]:
    from codomain.kernels import wpt_triton
    from codomain.kernels.wpt_triton import HEAD, PLANE_CHUNK, PLANE_STAGES, TILE, WINDOW, Map

    height, width = PLANE
    pixels, tiles = height * width, ceil(height / TILE) * ceil(width / TILE)
    axes = [f"{end}_{axis}" for end in ("x", "out") for axis in ("batch", "channel", "row", "column", "band")]
    shape = {"PERIODIC": False, "LEVEL": 3, "TILE": TILE, "WINDOW": WINDOW, "HEAD": HEAD, "CHUNK": PLANE_CHUNK}
    sizes = ("channels", "height", "width", "first", "reach", "row_skipped", "column_skipped")
    common = {"module": "codomain.kernels.wpt_triton", "num_warps": wpt_triton.WARPS, "num_stages": PLANE_STAGES}
    launches = []
    for name, inverse in (("wpt", False), ("iwpt", True)):
        reach = wpt_triton._support(Map(3, "bior4.4", "symmetric", inverse, False))[1]
        chunks = ceil(reach / PLANE_CHUNK)
        products = chunks * 2 * TILE * PLANE_CHUNK * (chunks * PLANE_CHUNK + TILE)
        kernel = {
            **common, "kernel": "_plane_kernel", "constexprs": {**shape, "SPLITS": not inverse},
            "signature": {**dict.fromkeys(("x", "out", "by_row", "by_column"), "*fp32"),
                          **dict.fromkeys((*sizes, *axes), "i32")},
        }  # fmt: skip
        operation = f"{name}, 3 x {height} x {width}, level 3"
        work = {"tf32": 3.0 * 3 * tiles * products}
        launches.append(Launch(operation, kernel, 3 * tiles, 24 * pixels, work, chunks**2 * FAR))
        if not inverse:
            latents = 16  # 12, padded
            scalars = dict.fromkeys(("scale", "offset", "least", "most"), "fp32")
            numbers = (*sizes, "rows_held", "columns_held", "x_batch", "x_channel", "x_row", "x_column", "d")
            tables = dict.fromkeys(("by_row", "by_column", "weights", "bias"), "*fp32")
            kernel = {
                **common, "module": "codomain.kernels.analysis_triton", "kernel": "_analysis_kernel",
                "constexprs": {**shape, "LATENTS": latents},
                "signature": {"x": "*u8", "out": "*i8", "failed": "*i32", **tables, **scalars,
                              **dict.fromkeys(numbers, "i32")},
            }  # fmt: skip
            work = {"tf32": 3.0 * 3 * tiles * (products + 2 * TILE * TILE * latents)}
            moved = 3 * pixels + pixels * 12 / 64
            fused = f"{height} x {width} pixels to int8, 16x"
            launches.append(Launch(fused, kernel, tiles, moved, work, 3 * (chunks**2 + 2) * FAR))
    return launches


def _lookups() -> list[Launch]:
    from codomain.codecs.bench_vq import LOOKUPS, STAGES
    from codomain.kernels import vq_triton

    (many, wide, codes), *_ = LOOKUPS
    pointers = {
        **dict.fromkeys(("X", "C", "BIAS", "MEAN", "FRAME", "X_HAT"), "*fp32"), "P1": "*fp16", "P2": "*fp16",
        "CODES": "*i64", "ERROR": "*fp64", "COUNTS": "*i64",
    }  # fmt: skip
    launches = []
    for n, d, k, stages in (*((*shape, 1) for shape in LOOKUPS), (4 * many, wide, codes, STAGES)):
        launch = vq_triton._launch(n, d)
        sizes = {"BN": launch.BN, "BK": launch.BK, "BD": launch.BD, "D": d}
        kernel = {
            "module": "codomain.kernels.vq_triton", "kernel": "_search_kernel",
            "num_warps": launch.warps, "num_stages": launch.depth,
            "signature": {**pointers, **dict.fromkeys(("n", "k", "stages", "stride_n"), "i32")},
            "constexprs": {**sizes, "COSINE": False, "WANTED": stages > 1},
        }  # fmt: skip
        programs, tiles = ceil(n / launch.BN), ceil(k / launch.BK) * stages
        scores = programs * tiles * launch.BN * launch.BK
        # a score is three products of float16; to scale it, keep the best and whose it is are six instructions
        work = {"fp16": 3.0 * 2 * launch.BD * scores, "fp32": 2.0 * 6 * scores}
        moved = n * d * 4 + n * 8 * stages + stages * k * (8 * d + 4)
        operation = f"{n} x {d}, {k} codes" + f", {stages} stages" * (stages > 1)
        chain = tiles * FAR / max(1, launch.depth - 1)
        launches.append(Launch(operation, kernel, programs, moved, work, chain))
    return launches


def _coding() -> list[Launch]:
    from codomain.codecs.bench_rans import ROWS, SYMBOLS
    from codomain.kernels.rans import MAX_LANES

    chunks, n = 128, ROWS * SYMBOLS
    common = {
        "module": "codomain.kernels.rans_triton", "num_warps": 1, "num_stages": 1,
        "constexprs": {"PRECISION": 14, "LANES": MAX_LANES},
    }  # fmt: skip
    data = {"columns": "*u16", "rows": "*u16", "words": "*u16", "jobs": "*i64", "states": "*u32"}
    tables = {"freqs": "*u32", "starts": "*u32", "width": "i32"}
    decode = {**data, **tables, "slots": "*u16", "cursors": "*i32"}
    encode = {**data, **tables, "inverses": "*u64", "counts": "*i32"}
    moved, steps = chunks * n * (2 + 2 + 1), n / MAX_LANES  # rows, columns, about a byte of words a symbol
    # a slot, in tables too large for the L1 cache; its frequency; a word. Encoding fetches a step ahead.
    return [
        Launch(f"decode, {chunks} chunks of {ROWS} x {SYMBOLS}", {**common, "kernel": "_decode_kernel",
               "signature": decode}, chunks, moved, {}, steps * (FAR + 2 * NEAR)),
        Launch(f"encode, {chunks} chunks of {ROWS} x {SYMBOLS}", {**common, "kernel": "_encode_kernel",
               "signature": encode}, chunks, moved, {}, steps * 2 * NEAR),
    ]  # fmt: skip


LAUNCHES = {"wpt": _packets, "vq": _lookups, "rans": _coding}
