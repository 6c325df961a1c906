"""The command line: codomain encode | decode | info | verify | models | evaluate | train | compare | predict | bench.

Only argparse is imported before a subcommand runs, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from codomain.codecs.arguments import DEFAULT_MODELS, make_parser
from codomain.codecs.inputs import complain, each, inspect
from codomain.codecs.progress import Bar


def main(argv: list[str] | None = None) -> int:
    """Run one command; return 0, 1 if an input failed, 2 for wrong usage."""
    parser = make_parser(
        {"encode": _encode, "decode": _decode, "info": _info, "verify": _verify, "models": _models,
         "evaluate": _evaluate, "train": _train, "compare": _compare, "predict": _predict, "bench": _bench}
    )  # fmt: skip
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.run not in (_train, _compare):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        return int(arguments.run(arguments))
    except BrokenPipeError:  # `codomain info ... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        return complain(error)
    except KeyboardInterrupt as stop:
        print(f"codomain: {stop if stop.args else 'interrupted; finished files are kept'}", file=sys.stderr)
        return 130


def _encode(arguments: argparse.Namespace) -> int:
    from codomain.codecs import files
    from codomain.codecs.load import load
    from codomain.codecs.target import UNITS, Target

    if arguments.shards is not None:
        return _encode_shards(arguments)
    if any(value is not None for value in (arguments.shard, arguments.jobs, arguments.engine)):
        raise ValueError("--shard, --jobs and --engine are of data sets, which --shards encodes")
    wanted = {what: getattr(arguments, f"target_{what}") for what in UNITS}
    goal = next((Target(what, value) for what, value in wanted.items() if value is not None), None)
    kinds, wanted_kind = list(DEFAULT_MODELS), None
    if arguments.model is not None:  # a wrong model or quality fails before the first file
        codec = load(arguments.model)
        wanted_kind = codec.kind
        kinds = ["video"] if wanted_kind == "video" else ["image", "sound"]
        if goal is None:
            codec.quality_index(arguments.quality)

    def one(source: Path, target: Path, bar: Bar) -> dict[str, Any]:
        if target != files.STREAM and target.suffix.lower() != ".cdm":
            raise ValueError(f"{target}: expected a name that ends in .cdm, or a folder that exists")
        files.refuse_overwrite(target, arguments.force)
        data = files.read(source) if source == files.STREAM else None
        kind = files.kind_of(source, data, wanted_kind)
        codec = load(arguments.model or DEFAULT_MODELS[kind])
        if codec.kind != kind:
            raise ValueError(f"expected {codec.kind}, which {codec.name} codes; found {kind}")
        if kind == "video":
            return _encode_film(arguments, data or source, target, codec, goal, bar)
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

    suffixes = set().union(*(files.SUFFIXES[kind] for kind in kinds))
    pairs = list(files.jobs(arguments.input, arguments.output, suffixes, ".cdm", wanted_kind == "video"))
    films = [path for path, _ in pairs if len(pairs) > 1 and files.kind_of(path, None, wanted_kind) == "video"]
    if films:
        minutes = f"{arguments.time / 60:.3g} minutes each, {len(films) * arguments.time / 60:.3g} in all"
        print(f"codomain: {len(films)} of {len(pairs)} files are films: {minutes}; see --time", file=sys.stderr)
    return each(arguments, pairs, one)


def _encode_shards(arguments: argparse.Namespace) -> int:
    from codomain.codecs.dataset import Settings, run
    from codomain.codecs.shards import Recipe
    from codomain.codecs.target import UNITS

    if arguments.output is None or any(getattr(arguments, f"target_{what}") is not None for what in UNITS):
        raise ValueError("--shards needs OUT, a folder of shards, and --quality in place of a target")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does, it ends the processes that work
    model, quality = arguments.model or DEFAULT_MODELS["image"], arguments.quality
    recipe = Recipe(arguments.input.resolve(), arguments.output.resolve(), model, quality)
    who = arguments.shard or (0, 1), arguments.jobs, arguments.engine or "processes"
    return run(recipe, int(arguments.shards), Settings(*who, arguments.force), arguments.json)


def _encode_film(
    arguments: argparse.Namespace, source: Path | bytes, target: Path, codec: Any, goal: Any, bar: Bar
) -> dict[str, Any]:
    from codomain.codecs import files
    from codomain.codecs.video_files import Wanted, encode_video

    if arguments.time <= 0:
        raise ValueError(f"--time is above 0; found {arguments.time:g} s")
    wanted = Wanted(arguments.quality, goal, arguments.time, arguments.scale, arguments.seed, arguments.mask)
    beside = None if target == files.STREAM else target
    coded = encode_video(source, codec, wanted, bar, beside, arguments.force)
    for note in coded.notes:
        print(f"codomain: {'-' if isinstance(source, bytes) else source}: {note}", file=sys.stderr)
    files.write(target, coded.data, arguments.force)
    form = coded.form
    if coded.lacking or coded.interrupted:
        kept = f"{target} holds {form.frames} of {form.frames + coded.lacking} frames as they were then"
        raise KeyboardInterrupt(f"interrupted: {kept}" + ("" if beside is None else "; with --force it goes on"))
    if coded.checkpoint is not None:
        coded.checkpoint.remove()
    return {"model": codec.name, **({} if coded.quality is None else {"quality": coded.quality}),
            **_film_row(form), "n_bytes": len(coded.data),
            "bpp": round(8 * len(coded.data) / (form.width * form.height * form.frames), 4)}  # fmt: skip


def _decode(arguments: argparse.Namespace) -> int:
    from codomain.codecs import bitstream, files, media, sound, video

    wanted = None if arguments.format is None else "." + arguments.format.lower().lstrip(".")
    if wanted is not None and wanted not in media.FORMATS and wanted not in video.WRITTEN:
        sound.written_format(wanted)

    def kind_of(data: bytes | memoryview) -> str:
        try:
            return bitstream.read_header(data).kind
        except ValueError:  # it will be refused in its turn
            return "image"

    def suffix_of(data: bytes | memoryview) -> str:
        kind = kind_of(data)
        if kind == "video":
            return "" if wanted == ".png" else str(wanted) if wanted in video.WRITTEN else ".mp4"
        fits = wanted is not None and wanted in {"image": media.FORMATS, "sound": sound.WRITTEN}[kind]
        return str(wanted) if fits else {"image": ".png", "sound": ".wav"}[kind]

    def one(source: Path, target: Path, bar: Bar) -> dict[str, Any]:
        data = files.view(source)
        suffix = suffix_of(data) if target == files.STREAM else target.suffix
        if kind_of(data) == "video":
            return _decode_film(arguments, source, data, target, suffix, bar)
        if arguments.frames is not None or arguments.fps is not None:
            raise ValueError(f"--frames and --fps are of video; the file holds {kind_of(data)}")
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
            raise ValueError("--start and --stop are of sound and video; the file holds an image")
        file = bitstream.read(data, arguments.salvage)
        _tell_damage(source, file.damage)
        picture = files.decode_picture(file, fast, arguments.stages)
        files.write(target, media.write_image(picture, format), arguments.force)
        height, width = picture.pixels.shape[1:]
        return {"width": width, "height": height, "damage": file.damage}

    def suffix_at(path: Path) -> str:
        return suffix_of(files.view(path))

    return each(arguments, files.jobs(arguments.input, arguments.output, {".cdm"}, suffix_at), one)


def _decode_film(
    arguments: argparse.Namespace, source: Path, data: bytes | memoryview, target: Path, suffix: str, bar: Bar
) -> dict[str, Any]:
    from codomain.codecs import files, video
    from codomain.codecs.video_files import Span, decode_video

    if arguments.frames is not None and (arguments.start is not None or arguments.stop is not None):
        raise ValueError("--frames, or --start and --stop: not both")
    first, stop = arguments.frames or (None, None)
    span = Span(first, stop, arguments.start, arguments.stop, arguments.fps)
    if suffix.lower() not in (*video.WRITTEN, *video.FOLDER):
        raise ValueError(f"{suffix}: video is written as one of {' '.join(video.WRITTEN)}, or a folder of PNG files")
    is_folder = suffix.lower() in video.FOLDER
    if is_folder and target == files.STREAM:
        raise ValueError("standard output takes no folder of frames")
    if not is_folder:
        files.refuse_overwrite(target, arguments.force)
    elif target.is_file() or (not arguments.force and target.is_dir() and video.holds_frames(target)):
        raise ValueError(f"{target} exists already{'' if target.is_file() else ': --force replaces its frames'}")
    decoded = decode_video(data, span, arguments.salvage)
    _tell_damage(source, decoded.file.damage)
    form = decoded.form
    frames = bar.tally(decoded.frames, form.frames, "frames")
    if is_folder:
        video.write_clip(target, frames, form, suffix)
    else:
        with files.writing(target, arguments.force) as partial:
            video.write_clip(partial, frames, form, suffix, decoded.audio)
    return {**_film_row(form), "damage": decoded.file.damage}


def _film_row(form: Any) -> dict[str, Any]:
    """What a report says of a film."""
    return {"width": form.width, "height": form.height, "frames": form.frames, "fps": str(form.rate)}


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

    return inspect(arguments, lambda data: describe(bitstream.read(data, salvage=True), len(data)))


def _verify(arguments: argparse.Namespace) -> int:
    from codomain.codecs import files

    def check(data: bytes) -> dict[str, Any]:
        file = files.check(data)
        return {"intact": True, "chunks": len(file.chunks)}

    return inspect(arguments, check)


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


def _compare(arguments: argparse.Namespace) -> int:
    from codomain.tasks.compare import compare, read_plan

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does, it ends the run that trains
    compare(read_plan(arguments.config), arguments.data, arguments.out, arguments.rest)
    print((arguments.out / "table.md").read_text(), end="")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from codomain.codecs import files
    from codomain.tasks.predict import Predictor

    look = Predictor(arguments.checkpoint)
    suffixes = {".cdm"} | files.SUFFIXES["image"] | files.SUFFIXES["sound"]
    if look.suffix is None:
        if arguments.out is not None:
            raise ValueError(f"{arguments.checkpoint} finds words, which are printed: no --out")
        return inspect(arguments, lambda data: look(data).words, suffixes)
    if arguments.out is None or arguments.out == files.STREAM or arguments.out.is_file():
        raise ValueError(f"{arguments.checkpoint} finds pictures or sound: --out names a folder for them")
    arguments.out.mkdir(parents=True, exist_ok=True)

    def one(source: Path, target: Path, bar: Bar) -> dict[str, Any]:
        paths = look.paths(target)
        for path in paths:
            files.refuse_overwrite(path, arguments.force)
        found = look(files.read(source))
        for path, data in zip(paths, found.written, strict=True):
            files.write(path, data, arguments.force)
        return found.words

    failed, pairs = 0, list[tuple[Path, Path]]()
    for name in arguments.input:
        try:
            for source, target in files.jobs(name, arguments.out, suffixes, look.suffix):
                pairs.append((source, arguments.out / f"stdin{look.suffix}" if source == files.STREAM else target))
        except ValueError as error:
            failed += complain(error)
    sources: dict[Path, Path] = {}
    for source, target in pairs:
        if sources.setdefault(target, source) != source:
            raise ValueError(f"{sources[target]} and {source} would both be written to {target}: give another --out")
    return max(failed, each(arguments, pairs, one))


def _bench(arguments: argparse.Namespace) -> int:
    from codomain.codecs.bench import bench

    bench(arguments.subject, arguments.json, arguments.plot, arguments.force, arguments.roofline)
    return 0


if __name__ == "__main__":
    sys.exit(main())
