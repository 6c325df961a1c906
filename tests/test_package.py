from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("kernels", "codecs", "tasks")
ENTRIES = ("train", "compare", "predict")  # of tasks, from the command line


def test_every_folder_is_packaged() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tops = [ROOT / t for t in (*ROOMS, "configs", "pretrained")]
    folders = {p for t in tops for p in t.rglob("*") if p.is_dir() and p.name != "__pycache__"} | set(tops)
    assert {"codomain." + ".".join(p.relative_to(ROOT).parts) for p in folders} == set(setup["packages"])
    inits = [p for room in (*ROOMS, "tests") for p in (ROOT / room).rglob("__init__.py")]
    assert not inits, f"these shadow the stdlib module codecs: {inits}"


def test_imports_point_one_way() -> None:
    """kernels <- codecs <- tasks; the command line alone reaches for tasks, inside their commands."""
    for i, room in enumerate(ROOMS):
        for path in (ROOT / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("codomain."):
                    target = ROOMS.index((node.module or "").split(".")[1])
                    entry = path.name == "cli.py" and node.module in {f"codomain.tasks.{name}" for name in ENTRIES}
                    allowed = target <= i or entry
                    assert allowed, f"{path.name} imports {node.module}"


def test_every_module_has_its_test_and_a_bearable_length() -> None:
    for room in ROOMS:
        for path in (ROOT / room).glob("*.py"):
            assert (ROOT / "tests" / room / f"test_{path.name}").exists(), path
            assert len(path.read_text().splitlines()) <= 400, path


def test_encoding_imports_nothing_of_training(tmp_path: Path) -> None:
    code = (
        "import sys; from codomain.codecs.cli import main\n"
        f"assert main(['encode', {str(ROOT / 'tests/data/chelsea.png')!r}, {str(tmp_path / 'x.cdm')!r}]) == 0\n"
        "print([m for m in ('compressai', 'lightning', 'matplotlib', 'pandas', 'triton') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_imports_no_torch() -> None:
    code = "import sys, codomain.codecs.cli; print('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
