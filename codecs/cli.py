"""The command line: codomain encode | decode | info | verify | models | evaluate | train | bench.

Only argparse is imported before a subcommand runs, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEFAULT_MODEL = "walloc-rgb-4x"
EXAMPLES = """examples:
  codomain encode photo.png                     photo.cdm, beside it
  codomain decode photo.cdm back.png            back to pixels; the file knows its model
  codomain encode photos/ small/ --model walloc-rgb-16x
  codomain info small/ --json | jq .bpp
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return 0, 1 if an input failed, 2 for wrong usage."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.run is not _train:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        return int(arguments.run(arguments))
    except BrokenPipeError:  # `codomain info ... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        return _complain(error)
    except KeyboardInterrupt:
        print("codomain: interrupted; finished files are kept", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codomain",
        description="Neural codecs whose compressed files you can learn from.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], int], text: str, detail: str = "") -> argparse.ArgumentParser:
        name = run.__name__.lstrip("_")
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {detail}")
        sub.set_defaults(run=run)
        return sub

    def in_out(sub: argparse.ArgumentParser, what: str) -> None:
        sub.add_argument("input", type=Path, metavar="IN", help=f"{what}, a folder of them, or - for stdin")
        sub.add_argument("output", type=Path, metavar="OUT", nargs="?", help="default: beside the input")
        sub.add_argument("-f", "--force", action="store_true", help="replace existing files")
        sub.add_argument("--json", action="store_true", help="print one JSON object per file")

    sub = command(_encode, "compress images to .cdm files", "PNG, JPEG, WebP, TIFF, AVIF, BMP; 8 or 16 bits.")
    in_out(sub, "an image")
    sub.add_argument("-m", "--model", default=DEFAULT_MODEL, help="see `codomain models` (default: %(default)s)")
    rate = sub.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=float, help="1 to 100, in quarters (default: 50)")
    rate.add_argument("--target-bytes", type=float, metavar="N", help="the best quality of at most N bytes")
    rate.add_argument("--target-bpp", type=float, metavar="N", help="... of at most N bits per pixel")
    rate.add_argument("--target-psnr", type=float, metavar="DB", help="the smallest file of at least so many dB")
    sub = command(_decode, "turn .cdm files back into images", "The file names its model and its size.")
    in_out(sub, "a .cdm file")
    sub.add_argument(
        "--format", default="png", help="of outputs without a suffix of their own: png, jpg, webp, tiff, avif, bmp"
    )
    sub.add_argument(
        "--decoder", choices=["best", "fast"], default="best", help="fast: a linear preview (default: %(default)s)"
    )
    sub.add_argument("--salvage", action="store_true", help="decode the intact chunks of a damaged file")
    for run, text in (
        (_info, "print what the header of .cdm files says"),
        (_verify, "check every byte of .cdm files"),
    ):
        sub = command(run, text)
        sub.add_argument("input", type=Path, metavar="IN", nargs="+", help="files or folders")
        sub.add_argument("--json", action="store_true", help="print one JSON object per file")
    sub = command(_models, "list the models that ship")
    sub.add_argument("--json", action="store_true", help="print the whole index as JSON")
    sub = command(
        _evaluate,
        "measure models on a folder of images",
        "Real files, decoded in fresh processes, beside JPEG, WebP, AVIF, JPEG 2000, and JPEG XL or CompressAI's "
        "models where they are installed. --out keeps tables (CSV, CompressAI's JSON), plots, the coded files, and "
        "report.html; "
        "a run that was interrupted goes on from there.",
    )
    source = sub.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, help="what to evaluate, such as configs/evaluate/kodak.yaml")
    source.add_argument("--models", nargs="+", metavar="NAME", help="models, and baselines as jpeg:30, avif:50")
    sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of images")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of results, new or of a run to continue")
    sub.add_argument("--anchor", metavar="NAME", help="curve that the others are compared with (default: jpeg)")
    sub.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default: one per core)")
    sub.add_argument("--no-timing", dest="timing", action="store_false", help="leave the speeds out")
    sub.add_argument(
        "--readme", type=Path, metavar="FILE", help="put the tables into this README; needs --config, --out"
    )
    sub = command(
        _train,
        "train a codec",
        "Further settings follow as --model.lmbda=0.02 --trainer.max_steps=20000 and so on.",
    )
    sub.add_argument("--config", type=Path, action="append", required=True, help="repeatable; later files win")
    sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="any folder of photographs")
    sub.add_argument(
        "--run",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="checkpoints, samples, weights (default: runs/CONFIG)",
    )
    sub.add_argument("--resume", action="store_true", help="continue from the run's last checkpoint")
    sub = command(_bench, "measure speed, side by side with what is installed")
    sub.add_argument("subject", choices=["wpt", "vq", "rans", "codec"])
    sub.add_argument("--json", action="store_true", help="print one JSON object per row")
    sub.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the rates, and the floor of ours")
    sub.add_argument("-f", "--force", action="store_true", help="replace an existing plot")
    sub.add_argument("--roofline", action="store_true", help="predict the GPU kernels on an H100; measures nothing")
    return parser


def _encode(arguments: argparse.Namespace) -> int:
    from codomain.codecs import files, media
    from codomain.codecs.load import load
    from codomain.codecs.target import UNITS, Target

    codec = load(arguments.model)
    wanted = {what: getattr(arguments, f"target_{what}") for what in UNITS}
    goal = next((Target(what, value) for what, value in wanted.items() if value is not None), None)
    if goal is None:
        codec.quality_index(arguments.quality)  # a wrong one fails before the first file

    def one(source: Path, target: Path) -> dict[str, Any]:
        if target != files.STREAM and target.suffix.lower() != ".cdm":
            raise ValueError(f"{target}: expected a name that ends in .cdm, or a folder that exists")
        files.refuse_overwrite(target, arguments.force)
        data = files.read(source)
        coded, (width, height), quality = files.encode_picture(data, codec, arguments.quality, goal)
        files.write(target, coded, arguments.force)
        chosen = {} if quality is None else {"quality": quality}
        return {"model": codec.name, **chosen, "width": width, "height": height, "n_bytes": len(coded),
                "bpp": round(8 * len(coded) / (width * height), 4)}  # fmt: skip

    return _each(
        arguments, files.jobs(arguments.input, arguments.output, set(media.FORMATS) | media.FOREIGN, ".cdm"), one
    )


def _decode(arguments: argparse.Namespace) -> int:
    from codomain.codecs import bitstream, files, media

    suffix = "." + arguments.format.lower().lstrip(".")
    media.suffix_format(Path("x" + suffix))

    def one(source: Path, target: Path) -> dict[str, Any]:
        format = media.suffix_format(Path("x" + suffix) if target == files.STREAM else target)
        files.refuse_overwrite(target, arguments.force)
        file = bitstream.read(files.read(source), arguments.salvage)
        for damage in file.damage:
            print(f"codomain: {source}: salvaged: {damage}", file=sys.stderr)
        picture = files.decode_picture(file, fast=arguments.decoder == "fast")
        files.write(target, media.write_image(picture, format), arguments.force)
        height, width = picture.pixels.shape[1:]
        return {"width": width, "height": height, "damage": file.damage}

    return _each(arguments, files.jobs(arguments.input, arguments.output, {".cdm"}, suffix), one)


def _info(arguments: argparse.Namespace) -> int:
    from codomain.codecs import bitstream
    from codomain.codecs.load import describe

    return _inspect(arguments, lambda data: describe(bitstream.read(data, salvage=True), len(data)))


def _verify(arguments: argparse.Namespace) -> int:
    from codomain.codecs import files

    def check(data: bytes) -> dict[str, Any]:
        file = files.check(data)
        return {"intact": True, "chunks": len(file.chunks)}

    return _inspect(arguments, check)


def _models(arguments: argparse.Namespace) -> int:
    from codomain.codecs.load import index, names

    if arguments.json:
        print(json.dumps({name: index()[name] for name in names()}, indent=2, default=str))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "kind", "latents", "Kodak", "weights", "licence")
    for name in names():
        record = index()[name]
        score = record["scores"]["kodak"]
        table.add_row(
            name, record["kind"], record["latents"], f"{score['psnr']} dB at {score['bpp']} bpp",
            record["sha256"][:16], record["licence"],
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from codomain.codecs.evaluate import Plan, evaluate, read_plan

    if arguments.readme is not None and (arguments.config is None or arguments.out is None):
        raise ValueError("--readme needs --config and --out")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise ValueError(f"--jobs is at least 1; found {arguments.jobs}")
    plan = read_plan(arguments.config) if arguments.config else Plan(tuple(arguments.models))
    if arguments.anchor is not None:
        plan = replace(plan, anchor=arguments.anchor)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does, it ends the processes that work
    left_out = evaluate(plan, arguments.data, arguments.out, arguments.jobs, arguments.timing, arguments.readme)
    for line in left_out:
        print(f"codomain: left out: {line}", file=sys.stderr)
    return 1 if left_out else 0


def _train(arguments: argparse.Namespace) -> int:
    from codomain.tasks.train import train

    folder = arguments.folder or Path("runs") / arguments.config[0].stem
    train(arguments.config, arguments.data, folder, arguments.resume, arguments.rest)
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from codomain.codecs.bench import bench

    bench(arguments.subject, arguments.json, arguments.plot, arguments.force, arguments.roofline)
    return 0


def _each(
    arguments: argparse.Namespace,
    jobs: Iterable[tuple[Path, Path]],
    one: Callable[[Path, Path], dict[str, Any]],
) -> int:
    """Run every job; a failed input costs one line on stderr and the exit code 1, and the others go on."""
    failed, pairs = 0, list(jobs)
    with _progress(len(pairs)) as advance:
        for source, target in pairs:
            began = time.perf_counter()
            try:
                row = one(source, target)
            except (ValueError, OSError) as error:
                failed += _complain(error, source)
                advance(0, source)
                continue
            seconds = time.perf_counter() - began
            megapixels = row["width"] * row["height"] / 1e6
            advance(megapixels, source)
            if arguments.json:
                report = {"input": str(source), "output": str(target), **row, "seconds": round(seconds, 4)}
                print(json.dumps(report), file=sys.stderr if str(target) == "-" else sys.stdout)
            elif len(pairs) == 1 and str(target) != "-":
                size = f"{row['n_bytes']} bytes, {row['bpp']} bpp, " if "bpp" in row else ""
                size += f"quality {row['quality']:g}, " if "quality" in row else ""
                print(f"{target}: {row['width']} x {row['height']}, {size}{seconds:.2f} s")
    if failed:
        print(f"codomain: {failed} of {len(pairs)} failed", file=sys.stderr)
    return 1 if failed else 0


def _inspect(arguments: argparse.Namespace, look: Callable[[bytes], dict[str, Any]]) -> int:
    from codomain.codecs import files

    failed, paths = 0, []
    for source in arguments.input:
        try:
            paths += [path for path, _ in files.jobs(source, None, {".cdm"}, ".cdm")]
        except ValueError as error:
            failed += _complain(error)
    for path in paths:
        try:
            row = {"file": str(path), **look(files.read(path))}
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            failed += _complain(error, path)
            continue
        if arguments.json:
            print(json.dumps(row))
        else:
            print("\n".join(f"{key:>10}  {value}" for key, value in row.items() if value not in ("", [])))
    return 1 if failed else 0


@contextmanager
def _progress(total: int) -> Iterator[Callable[[float, Path], None]]:
    """A bar with throughput on stderr, where someone is watching and there is more than one file."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda megapixels, path: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]:.1f} MPix/s"), TimeRemainingColumn(),
        TextColumn("{task.description}"), console=Console(stderr=True),
    )  # fmt: skip
    began, done = time.perf_counter(), 0.0
    with bar:
        task = bar.add_task("", total=total, speed=0.0)

        def advance(megapixels: float, path: Path) -> None:
            nonlocal done
            done += megapixels
            bar.update(task, advance=1, description=path.name, speed=done / (time.perf_counter() - began))

        yield advance


def _complain(error: Exception, source: Path | None = None) -> int:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or source}: {error.strerror}"
    else:
        text = f"{source}: {error}" if source is not None and str(source) not in str(error) else str(error)
    print(f"codomain: {' '.join(text.split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
