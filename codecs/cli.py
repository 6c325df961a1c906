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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from codomain.codecs.arguments import DEFAULT_MODELS, make_parser
from codomain.codecs.progress import Bar, progress


def main(argv: list[str] | None = None) -> int:
    """Run one command; return 0, 1 if an input failed, 2 for wrong usage."""
    parser = make_parser(
        {"encode": _encode, "decode": _decode, "info": _info, "verify": _verify, "models": _models,
         "evaluate": _evaluate, "train": _train, "bench": _bench}
    )  # fmt: skip
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


def _encode(arguments: argparse.Namespace) -> int:
    from codomain.codecs import files
    from codomain.codecs.load import load
    from codomain.codecs.target import UNITS, Target

    wanted = {what: getattr(arguments, f"target_{what}") for what in UNITS}
    goal = next((Target(what, value) for what, value in wanted.items() if value is not None), None)
    if arguments.model is not None:  # a wrong model or quality fails before the first file
        codec = load(arguments.model)
        if goal is None:
            codec.quality_index(arguments.quality)

    def one(source: Path, target: Path, bar: Bar) -> dict[str, Any]:
        if target != files.STREAM and target.suffix.lower() != ".cdm":
            raise ValueError(f"{target}: expected a name that ends in .cdm, or a folder that exists")
        files.refuse_overwrite(target, arguments.force)
        data = files.read(source) if source == files.STREAM else None
        kind = files.kind_of(source, data)
        codec = load(arguments.model or DEFAULT_MODELS[kind])
        if codec.kind != kind:
            raise ValueError(f"expected {codec.kind}, which {codec.name} codes; found {kind}")
        settings = codec, arguments.quality, goal
        if kind == "image":
            coded, (width, height), quality = files.encode_picture(data or files.read(source), *settings)
            row = {"width": width, "height": height, "n_bytes": len(coded),
                   "bpp": round(8 * len(coded) / (width * height), 4)}  # fmt: skip
        else:
            coded, form, quality = files.encode_sound(data or source, *settings, bar)
            row = {**_sound_row(form), "n_bytes": len(coded), "kbps": round(8 * len(coded) / form.seconds / 1000, 3)}
        files.write(target, coded, arguments.force)
        return {"model": codec.name, **({} if quality is None else {"quality": quality}), **row}

    suffixes = set().union(*files.SUFFIXES.values())
    return _each(arguments, files.jobs(arguments.input, arguments.output, suffixes, ".cdm"), one)


def _decode(arguments: argparse.Namespace) -> int:
    from codomain.codecs import bitstream, files, media, sound

    wanted = None if arguments.format is None else "." + arguments.format.lower().lstrip(".")
    if wanted is not None and wanted not in media.FORMATS:
        sound.written_format(wanted)

    def kind_of(data: bytes | memoryview) -> str:
        try:
            return bitstream.read_header(data).kind
        except ValueError:  # it will be refused in its turn
            return "image"

    def suffix_of(data: bytes | memoryview) -> str:
        kind = kind_of(data)
        fits = wanted is not None and (wanted in sound.WRITTEN) == (kind == "sound")
        return str(wanted) if fits else {"image": ".png", "sound": ".wav"}[kind]

    def one(source: Path, target: Path, bar: Bar) -> dict[str, Any]:
        data = files.view(source)
        suffix = suffix_of(data) if target == files.STREAM else target.suffix
        files.refuse_overwrite(target, arguments.force)
        fast = arguments.decoder == "fast"
        if kind_of(data) == "sound":
            sound.written_format(suffix)
            span = arguments.start, arguments.stop, arguments.stages
            file, form, blocks = files.decode_sound(data, *span, arguments.salvage, fast)
            _tell_damage(source, file.damage)
            with files.writing(target, arguments.force) as partial:
                sound.write_sound(partial, bar.count(blocks, form.samples), form, suffix)
            return {**_sound_row(form), "damage": file.damage}
        format = media.suffix_format(Path("x" + suffix))
        if arguments.start is not None or arguments.stop is not None:
            raise ValueError("--start and --stop are of sound; the file holds an image")
        file = bitstream.read(data, arguments.salvage)
        _tell_damage(source, file.damage)
        picture = files.decode_picture(file, fast, arguments.stages)
        files.write(target, media.write_image(picture, format), arguments.force)
        height, width = picture.pixels.shape[1:]
        return {"width": width, "height": height, "damage": file.damage}

    def suffix_at(path: Path) -> str:
        return suffix_of(files.view(path))

    return _each(arguments, files.jobs(arguments.input, arguments.output, {".cdm"}, suffix_at), one)


def _tell_damage(source: Path, damage: list[str]) -> None:
    for line in damage:
        print(f"codomain: {source}: salvaged: {line}", file=sys.stderr)


def _sound_row(form: Any) -> dict[str, Any]:
    """What a report says of a recording."""
    return {"channels": form.channels, "sample_rate": form.sample_rate, "samples": form.samples,
            "duration": round(form.seconds, 3)}  # fmt: skip


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

    table = Table("name", "kind", "latents", "measured", "weights", "licence")
    for name in names():
        record = index()[name]
        scores = (f"{data}: {', '.join(f'{key} {value}' for key, value in found.items())}"
                  for data, found in record["scores"].items())  # fmt: skip
        table.add_row(
            name, record["kind"], record["latents"], "; ".join(scores), record["sha256"][:16], record["licence"]
        )
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
    if arguments.ladder:
        from codomain.codecs.ladder import ladder

        for name in plan.models:
            print(name, *(f"{bits:9.3f}  {what}" for what, bits in ladder(name, arguments.data).items()), sep="\n")
        return 0
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
    one: Callable[[Path, Path, Bar], dict[str, Any]],
) -> int:
    """Run every job; a failed input costs one line on stderr and the exit code 1, and the others go on."""
    from codomain.codecs.files import kind_of

    failed, pairs = 0, list(jobs)
    shown = len(pairs) > 1 or any(kind_of(path) == "sound" for pair in pairs for path in pair)
    with progress(len(pairs), shown=shown) as bar:
        for source, target in pairs:
            began = time.perf_counter()
            bar.begin(source.name)
            try:
                row = one(source, target, bar)
            except BrokenPipeError:
                raise
            except (ValueError, OSError) as error:
                failed += _complain(error, source)
                continue
            finally:
                bar.finish()
            seconds = time.perf_counter() - began
            if "width" in row:
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
    else:
        words = [f"{row['duration']:g} s of {row['channels']} x {row['sample_rate']} Hz"]
    words += [f"{row['n_bytes']} bytes"] if "n_bytes" in row else []
    words += [f"{row[unit]} {unit}" for unit in ("bpp", "kbps") if unit in row]
    words += [f"quality {row['quality']:g}"] if "quality" in row else []
    return ", ".join(words)


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


def _complain(error: Exception, source: Path | None = None) -> int:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or source}: {error.strerror}"
    else:
        text = f"{source}: {error}" if source is not None and str(source) not in str(error) else str(error)
    print(f"codomain: {' '.join(text.split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
