"""Arguments: what the command line takes. Only argparse is imported, so that --help answers at once."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

DEFAULT_MODELS = {"image": "walloc-rgb-4x", "sound": "walloc-stereo-5x", "video": "nerv"}
EXAMPLES = """examples:
  codomain encode photo.png                     photo.cdm, beside it
  codomain decode photo.cdm back.png            back to pixels; the file knows its model
  codomain encode song.flac --target-kbps 48
  codomain decode song.cdm --start 12.5 --stop 20
  codomain encode photos/ small/ --model walloc-rgb-16x
  codomain encode images/ shards/ --shards 256MB --model walloc-rgb-16x
  codomain encode clip.mp4 --size 60k --time 10m
  codomain decode clip.cdm part.mkv --frames 100:120
  codomain info small/ --json | jq .bpp
"""


def size(text: str) -> float:
    """Return the bytes of 60k, 1.5M, 256MB or 60000."""
    number = text.removesuffix("B") if text[-2:-1] in "kMG" else text
    return _scaled(number, {"k": 1e3, "M": 1e6, "G": 1e9}, "a size such as 60k, 1.5MB or 60000")


def part(text: str) -> tuple[int, int]:
    """Return (i, n) of i/n, the part i of n, counted from 0."""
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal() and int(first) < int(second)):
        raise argparse.ArgumentTypeError(f"expected a part such as 0/8, the first of 8, to 7/8; found {text!r}")
    return int(first), int(second)


def duration(text: str) -> float:
    """Return the seconds of 90, 90s, 10m or 1h."""
    return _scaled(text, {"s": 1.0, "m": 60.0, "h": 3600.0}, "a time such as 90, 90s, 10m or 1h")


def ratio(text: str) -> Fraction:
    """Return the positive number that 1/2, 0.5 or 30000/1001 stands for."""
    try:
        found = Fraction(text)
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if found <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0 such as 1/2 or 30000/1001; found {text!r}")
    return found


def frames(text: str) -> tuple[int | None, int | None]:
    """Return the first frame of 100:120, and the one after the last; None for the ends of 100: and :120."""
    first, colon, stop = text.partition(":")
    try:
        start = int(first) if first else None
        return start, (int(stop) if stop else None) if colon else int(first) + 1
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected frames such as 100:120; found {text!r}") from None


def _scaled(text: str, units: Mapping[str, float], expected: str) -> float:
    unit = units.get(text[-1:])
    try:
        found = float(text if unit is None else text[:-1]) * (unit or 1.0)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"expected {expected}; found {text!r}")
    return found


def make_parser(runs: Mapping[str, Callable[[argparse.Namespace], int]]) -> argparse.ArgumentParser:
    """Return the parser; a command's ``run`` is that of its name."""
    parser = argparse.ArgumentParser(
        prog="codomain",
        description="Neural codecs whose compressed files you can learn from.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str, detail: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {detail}")
        sub.set_defaults(run=runs[name])
        return sub

    def in_out(sub: argparse.ArgumentParser, what: str) -> None:
        sub.add_argument("input", type=Path, metavar="IN", help=f"{what}, a folder of them, or - for stdin")
        sub.add_argument("output", type=Path, metavar="OUT", nargs="?", help="default: beside the input")
        sub.add_argument("-f", "--force", action="store_true", help="replace existing files")
        sub.add_argument("--json", action="store_true", help="print one JSON object per file")

    sub = command(
        "encode",
        "compress images, sound and video to .cdm files",
        "PNG, JPEG, WebP, TIFF, AVIF, BMP of 8 or 16 bits; WAV, FLAC, OGG, Opus, MP3, AIFF of 1 to 8 channels; MP4, "
        "MKV, WebM, AVI, Y4M, and with --model of video a folder of PNG files.",
    )
    in_out(sub, "an image, a sound file or a film")
    sub.add_argument(
        "-m",
        "--model",
        help="see `codomain models`, or a config of video, a path that ends in .yaml "
        f"(default: {' or '.join(DEFAULT_MODELS.values())}, by the input)",
    )
    rate = sub.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=float, help="1 to 100, in quarters (default: 50)")
    rate.add_argument(
        "--size", "--target-bytes", dest="target_bytes", type=size, metavar="N",
        help="the best quality of at most N bytes, such as 60k",
    )  # fmt: skip
    rate.add_argument("--target-bpp", type=float, metavar="N", help="... of at most N bits per pixel")
    rate.add_argument("--target-kbps", type=float, metavar="N", help="... of at most N kilobits per second of sound")
    rate.add_argument("--target-psnr", type=float, metavar="DB", help="the smallest file of at least so many dB")
    film = sub.add_argument_group(
        "video",
        "It takes the time that it is given. Ctrl-C writes what is fitted; with --force the same command goes on.",
    )
    film.add_argument(
        "--time", type=duration, default=600.0, metavar="T", help="to fit the whole clip, such as 90s (default: 10m)"
    )
    film.add_argument(
        "--scale", type=ratio, default=Fraction(1), metavar="S", help="of the sides, such as 1/2 (default: 1)"
    )
    film.add_argument("--seed", type=int, default=0, metavar="N", help="of the networks (default: 0)")
    film.add_argument("--mask", type=Path, metavar="PNG", help="of the frames' size: what is black is not coded")
    shards = sub.add_argument_group(
        "data sets",
        "IN is a folder of folders named after classes, or of WebDataset's tar shards; OUT gets tar shards of .cdm "
        "files, each with counts and digests beside it. The same command again skips what is complete.",
    )
    shards.add_argument(
        "--shards", type=size, metavar="N", help="of at most N input bytes, such as 256MB; of tar shards: one of each"
    )
    shards.add_argument("--shard", type=part, metavar="I/N", help="shards I, I + N, I + 2N ... alone, such as 0/8")
    shards.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default: one per core)")
    shards.add_argument(
        "--engine", choices=["processes", "ray"], help="of this machine, or of a Ray cluster (default: processes)"
    )
    sub = command(
        "decode",
        "turn .cdm files back into images, sound and video",
        "The file names its model, its size and its rate.",
    )
    in_out(sub, "a .cdm file")
    sub.add_argument(
        "--format",
        help="of outputs without a suffix of their own: png, jpg, webp, tiff, avif, bmp (default: png); "
        "wav, flac (default: wav); mp4, mkv, y4m, or png for a folder of frames (default: mp4)",
    )
    sub.add_argument("--start", type=float, metavar="S", help="of sound and video: the second to start at")
    sub.add_argument("--stop", type=float, metavar="S", help="of sound and video: the second to stop at")
    sub.add_argument("--frames", type=frames, metavar="A:B", help="of video: frames from A to before B alone")
    sub.add_argument("--fps", type=ratio, metavar="N", help="of video: make frames between those of the file")
    sub.add_argument("--stages", type=int, metavar="N", help="of residual codes: use the first N stages alone")
    sub.add_argument(
        "--decoder", choices=["best", "fast"], default="best", help="fast: a linear preview (default: %(default)s)"
    )
    sub.add_argument("--salvage", action="store_true", help="decode the intact chunks of a damaged file")
    for name, text in (
        ("info", "print what the header of .cdm files says"),
        ("verify", "check every byte of .cdm files"),
    ):
        sub = command(name, text)
        sub.add_argument("input", type=Path, metavar="IN", nargs="+", help="files or folders")
        sub.add_argument("--json", action="store_true", help="print one JSON object per file")
    sub = command("models", "list the models that ship")
    sub.add_argument("--json", action="store_true", help="print the whole index as JSON")
    sub = command(
        "evaluate",
        "measure models on a folder of images, of sound or of video",
        "Real files, decoded in fresh processes, beside JPEG, WebP, AVIF, JPEG 2000, and JPEG XL or CompressAI's "
        "models where they are installed; beside Opus, MP3, Vorbis; x264, x265, SVT-AV1. --out keeps tables "
        "(CSV, CompressAI's JSON), plots, the coded files, and "
        "report.html; "
        "a run that was interrupted goes on from there.",
    )
    source = sub.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, help="what to evaluate, such as configs/evaluate/kodak.yaml")
    source.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="all of one kind: models, and baselines as jpeg:30, avif:50; opus:64, mp3:128, vorbis:4; x264:29, "
        "svtav1:44; hnerv-boost-90s:50 is fitted for 90 s (default: 10m); opus@MODEL is Opus at the bytes of MODEL, "
        "opus:matched at those of each",
    )
    sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of images, sound files or videos")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of results, new or of a run to continue")
    sub.add_argument(
        "--anchor", metavar="NAME", help="curve that the others are compared with (default: jpeg, opus, x264)"
    )
    sub.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default: one per core)")
    sub.add_argument("--no-timing", dest="timing", action="store_false", help="leave the speeds out")
    sub.add_argument(
        "--ladder", action="store_true", help="of models with codes alone: bits per code as tables look at more"
    )
    sub.add_argument(
        "--readme", type=Path, metavar="FILE", help="put the tables into this README; needs --config, --out"
    )
    sub = command(
        "train",
        "train a codec, or a task on what it stores",
        "Further settings follow as --model.lmbda=0.02 --trainer.max_steps=20000 and so on.",
    )
    sub.add_argument("--config", type=Path, action="append", required=True, help="repeatable; later files win")
    sub.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="any folder of photographs; of a task, class folders of .cdm files, or shards",
    )
    sub.add_argument(
        "--run",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="checkpoints, samples, weights (default: runs/CONFIG)",
    )
    sub.add_argument("--resume", action="store_true", help="continue from the run's last checkpoint")
    sub = command(
        "compare",
        "train one network on latents and on pixels of the same signals",
        "Several seeds; writes tables and a plot; goes on where it was. Further settings follow as for train.",
    )
    sub.add_argument("--config", type=Path, required=True, help="such as configs/compare/trashnet.yaml, read.yaml")
    sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="the signals: what the plan says")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="files, runs, tables and plot")
    sub = command(
        "predict",
        "label, read, colour or separate files by a trained task",
        "`.cdm` files by their latents, images and sound coded in memory first; one JSON object per file. Labels, and "
        "texts of lines, are in it; coloured pictures, PNG, and stems, a folder of FLAC for each song, go to --out.",
    )
    sub.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="model.ckpt of a run")
    sub.add_argument("input", type=Path, metavar="PATH", nargs="+", help="files or folders")
    sub.add_argument("--out", type=Path, metavar="DIR", help="of tasks that colour or separate: a folder")
    sub.add_argument("-f", "--force", action="store_true", help="replace existing files there")
    sub.set_defaults(json=True)
    sub = command("bench", "measure speed, side by side with what is installed")
    sub.add_argument("subject", choices=["wpt", "vq", "rans", "codec"])
    sub.add_argument("--json", action="store_true", help="print one JSON object per row")
    sub.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the rates, and the floor of ours")
    sub.add_argument("-f", "--force", action="store_true", help="replace an existing plot")
    sub.add_argument("--roofline", action="store_true", help="predict the GPU kernels on an H100; measures nothing")
    return parser
