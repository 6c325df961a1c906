"""Inputs: a command over one file or many. A failed one costs a line on stderr, and the others go on."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from codomain.codecs.progress import Bar, progress


def each(
    arguments: argparse.Namespace,
    jobs: Iterable[tuple[Path, Path]],
    one: Callable[[Path, Path, Bar], dict[str, Any]],
) -> int:
    """Run every job, and return the exit code: 1 if an input failed, which costs one line on stderr.

    Args:
        arguments: of the command: with ``json``, one object per file is printed.
        jobs: inputs and outputs.
        one: does one of them, and returns what is reported of it.
    """
    from codomain.codecs.files import kind_of

    failed, pairs = 0, list(jobs)
    shown = len(pairs) > 1 or any(kind_of(path) != "image" for pair in pairs for path in pair)
    with progress(len(pairs), shown=shown) as bar:
        for source, target in pairs:
            began = time.perf_counter()
            bar.begin(source.name)
            try:
                row = one(source, target, bar)
            except BrokenPipeError:
                raise
            except (ValueError, OSError) as error:
                failed += complain(error, source)
                continue
            finally:
                bar.finish()
            seconds = time.perf_counter() - began
            if "width" in row and "frames" not in row:
                bar.pass_through(row["width"] * row["height"] / 1e6, "MPix")
            if arguments.json:
                report = {"input": str(source), "output": str(target), **row, "seconds": round(seconds, 4)}
                print(json.dumps(report), file=sys.stderr if str(target) == "-" else sys.stdout)
            elif len(pairs) == 1 and str(target) != "-":
                print(f"{target}: {_summary(row)}, {seconds:.2f} s")
    if failed:
        print(f"codomain: {failed} of {len(pairs)} failed", file=sys.stderr)
    return 1 if failed else 0


def _summary(row: dict[str, Any]) -> str:
    """One line of what was coded."""
    if "width" in row:
        words = [f"{row['width']} x {row['height']}"]
        words += [f"{row['frames']} frames at {row['fps']} fps"] if "frames" in row else []
    else:
        words = [f"{row['duration']:g} s of {row['channels']} x {row['sample_rate']} Hz"]
    words += [f"{row['n_bytes']} bytes"] if "n_bytes" in row else []
    words += [f"{row[unit]} {unit}" for unit in ("bpp", "kbps") if unit in row]
    words += [f"quality {row['quality']:g}"] if "quality" in row else []
    return ", ".join(words)


def inspect(
    arguments: argparse.Namespace, look: Callable[[bytes], dict[str, Any]], suffixes: set[str] | None = None
) -> int:
    """Print what a look at each input's bytes says, as lines or as one JSON object per file; return the exit code.

    Args:
        arguments: of the command: ``input``, files or folders, and ``json``.
        look: its keys and values are printed.
        suffixes: of the files in a folder; by default `.cdm`.
    """
    from codomain.codecs import files

    failed, paths = 0, []
    for source in arguments.input:
        try:
            paths += [path for path, _ in files.jobs(source, None, suffixes or {".cdm"}, ".cdm")]
        except ValueError as error:
            failed += complain(error)
    for path in paths:
        try:
            row = {"file": str(path), **look(files.read(path))}
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            failed += complain(error, path)
            continue
        if arguments.json:
            print(json.dumps(row))
        else:
            print("\n".join(f"{key:>10}  {value}" for key, value in row.items() if value not in ("", [])))
    return 1 if failed else 0


def complain(error: Exception, source: Path | None = None) -> int:
    """Print an error as one line that names its input; return the exit code, 1."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or source}: {error.strerror}"
    else:
        text = f"{source}: {error}" if source is not None and str(source) not in str(error) else str(error)
    print(f"codomain: {' '.join(text.split())}", file=sys.stderr)
    return 1
