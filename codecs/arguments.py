"""Arguments: what the command line takes. Only argparse is imported, so that --help answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

DEFAULT_MODELS = {"image": "walloc-rgb-4x", "sound": "walloc-stereo-5x"}
EXAMPLES = """examples:
  codomain encode photo.png                     photo.cdm, beside it
  codomain decode photo.cdm back.png            back to pixels; the file knows its model
  codomain encode song.flac --target-kbps 48
  codomain decode song.cdm --start 12.5 --stop 20
  codomain encode photos/ small/ --model walloc-rgb-16x
  codomain info small/ --json | jq .bpp
"""


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
        "compress images and sound to .cdm files",
        "PNG, JPEG, WebP, TIFF, AVIF, BMP of 8 or 16 bits; WAV, FLAC, OGG, Opus, MP3, AIFF of 1 to 8 channels.",
    )
    in_out(sub, "an image or a sound file")
    sub.add_argument(
        "-m", "--model", help=f"see `codomain models` (default: {' or '.join(DEFAULT_MODELS.values())}, by the input)"
    )
    rate = sub.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=float, help="1 to 100, in quarters (default: 50)")
    rate.add_argument("--target-bytes", type=float, metavar="N", help="the best quality of at most N bytes")
    rate.add_argument("--target-bpp", type=float, metavar="N", help="... of at most N bits per pixel")
    rate.add_argument("--target-kbps", type=float, metavar="N", help="... of at most N kilobits per second of sound")
    rate.add_argument("--target-psnr", type=float, metavar="DB", help="the smallest file of at least so many dB")
    sub = command(
        "decode", "turn .cdm files back into images and sound", "The file names its model, its size and its rate."
    )
    in_out(sub, "a .cdm file")
    sub.add_argument(
        "--format",
        help="of outputs without a suffix of their own: png, jpg, webp, tiff, avif, bmp (default: png); "
        "wav, flac (default: wav)",
    )
    sub.add_argument("--start", type=float, metavar="S", help="of sound: the second to start at")
    sub.add_argument("--stop", type=float, metavar="S", help="of sound: the second to stop at")
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
        "measure models on a folder of images or of sound",
        "Real files, decoded in fresh processes, beside JPEG, WebP, AVIF, JPEG 2000, and JPEG XL or CompressAI's "
        "models where they are installed. --out keeps tables (CSV, CompressAI's JSON), plots, the coded files, and "
        "report.html; "
        "a run that was interrupted goes on from there.",
    )
    source = sub.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, help="what to evaluate, such as configs/evaluate/kodak.yaml")
    source.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="all of one kind: models, and baselines as jpeg:30, avif:50; opus:64, mp3:128, vorbis:4; "
        "opus@MODEL is Opus at the bytes of MODEL, opus:matched at those of each",
    )
    sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of images or sound files")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of results, new or of a run to continue")
    sub.add_argument("--anchor", metavar="NAME", help="curve that the others are compared with (default: jpeg, opus)")
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
    sub = command("bench", "measure speed, side by side with what is installed")
    sub.add_argument("subject", choices=["wpt", "vq", "rans", "codec"])
    sub.add_argument("--json", action="store_true", help="print one JSON object per row")
    sub.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the rates, and the floor of ours")
    sub.add_argument("-f", "--force", action="store_true", help="replace an existing plot")
    sub.add_argument("--roofline", action="store_true", help="predict the GPU kernels on an H100; measures nothing")
    return parser
