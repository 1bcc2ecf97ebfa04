"""`aistudio weights fetch|verify|list`: the files that models need, on this machine."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aistudio import builtin
from aistudio.errors import AIStudioError, ConfigError
from aistudio.places import require_place

if TYPE_CHECKING:
    import numpy as np

    from aistudio.config import ModelConfig, StoreSettings
    from aistudio.models import ImageEncoder
    from aistudio.weights.cache import WeightsCache

SMOKE_TEXT = "海边的日落"
PROGRESS_EVERY_S = 0.5


DESCRIPTION = """\
fetch: download what is missing (resumes, checks the checksum) to the conf's paths; --cache: into this node's cache
verify: open the files, print what they are and a first score
list: which files each model needs, and which are there
prune: remove from this node's cache what no run has used for --days; --dry-run only says what that would be

A scoring run needs none of this for files that have a url (https:// or s3://) in the conf: each node fetches what it
lacks once, into its cache ($AISTUDIO_CACHE/weights, else ~/.cache/aistudio/weights). See docs/cluster.md."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aistudio weights",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["fetch", "verify", "list", "prune"])
    parser.add_argument(
        "--conf",
        action="append",
        default=[],
        metavar="MODEL",
        help="a model: its conf file, or the name of a built-in one; may be repeated; default: all built-in ones, and "
        "those in conf/models/ here",
    )
    parser.add_argument(
        "--cache",
        nargs="?",
        const="",
        metavar="DIR",
        help="fetch: into the cache of this node, e.g. while its image is built; DIR: a cache that is elsewhere",
    )
    parser.add_argument("--days", type=float, default=90.0, metavar="N", help="prune: default %(default)g")
    parser.add_argument("--dry-run", action="store_true", help="prune: remove nothing")
    parser.add_argument(
        "--endpoint-url", metavar="URL", help="of S3-compatible storage; credentials: boto3's ordinary chain"
    )
    parser.add_argument("--cases", metavar="DIR", help="verify: also score the images and texts of DIR/cases.json")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.action == "prune":
        return _prune(args)
    from aistudio.config import StoreSettings, load_model_config

    configs = [load_model_config(conf) for conf in args.conf or _known_models()]

    from aistudio.weights.cache import WeightsCache, default_folder

    store = StoreSettings(endpoint_url=args.endpoint_url)
    cache = WeightsCache(default_folder(args.cache and require_place("--cache", args.cache, ())), store, announce=True)
    if args.action == "list":
        return _list(configs, cache)
    if args.action == "fetch" and args.cache is not None:
        return _each(configs, lambda cfg: _fetch_to_cache(cfg, cache))
    if args.action == "fetch":
        return _each(configs, lambda cfg: _fetch(cfg, store))
    fingerprints: dict[str, str] = {}
    code = _each(configs, lambda cfg: _verify(cfg, cache, args.cases, fingerprints))
    _print_sharing(fingerprints)
    return code


def _prune(args: argparse.Namespace) -> int:
    from aistudio.weights.cache import default_folder
    from aistudio.weights.pruning import prune

    if not args.days >= 0:
        raise ConfigError(f"--days {args.days:g}: expected 0 or more")
    folder = default_folder(args.cache and require_place("--cache", args.cache, ()))
    removed = prune(folder, args.days, dry_run=args.dry_run)
    for path, num_bytes, why in removed:
        print(f"{num_bytes:>15,} bytes  {path}  ({why})")
    verb = "would be removed" if args.dry_run else "removed"
    print(f"{sum(r.num_bytes for r in removed) / 1e6:,.1f} MB {verb} from {folder}")
    return 0


def _known_models() -> list[str]:
    """Built-in models, and confs of the working directory's conf/models/; one of a built-in name goes before it."""
    here = {path.stem: str(path) for path in Path(builtin.MODELS).glob("*.yaml")}
    known = {name: f"{builtin.MODELS}/{name}.yaml" for name in builtin.names()}
    return [conf for _, conf in sorted((known | here).items())]


def _each(configs: list["ModelConfig"], action: Callable[["ModelConfig"], object]) -> int:
    """Run `action` on every model; a failing one is reported and does not keep the others from their turn."""
    code = 0
    for cfg in configs:
        try:
            action(cfg)
        except AIStudioError as e:
            print(f"error: {cfg.name}: {e}", file=sys.stderr)
            code = max(code, e.exit_code)
    return code


def _list(configs: list["ModelConfig"], cache: "WeightsCache") -> int:
    from aistudio.secrets import shown_address
    from aistudio.weights.placing import place_file

    for cfg in configs:
        print(f"{cfg.name} ({cfg.family}); licence: {cfg.licence or cfg.weights.licence or 'not given'}")
        for file in cfg.files:
            path = place_file(file, cache, fetch=False)
            state = f"{path.stat().st_size:>13,} bytes" if path.is_file() else "not here".rjust(19)
            where = "" if str(path) == str(Path(file.path)) else f" (in the cache: {path})"
            print(f"  {state}  {file.path}{where}  <- {shown_address(file.url) if file.url else 'no address known'}")
    return 0


def _fetch_to_cache(cfg: "ModelConfig", cache: "WeightsCache") -> None:
    from aistudio.weights.placing import pin_files, place_file

    pinned = pin_files(cfg, cache)
    for file in pinned.files:
        print(f"{file.path}: {place_file(file, cache)}; sha256 {file.sha256 or 'not known: no such file'}")


def _fetch(cfg: "ModelConfig", store: "StoreSettings") -> None:
    from aistudio.weights.fetch import fetch_file

    for file in cfg.files:
        there = Path(file.path).is_file()
        digest = fetch_file(file, _progress(file.path), store=store)
        known = "as expected" if file.sha256 else "recorded, compared from now on"
        print(f"{file.path}: {'already here' if there else 'fetched'}; sha256 {digest} ({known})")


def _progress(name: str) -> Callable[[int, int | None], None]:
    """Return a callback that prints one updating line on a terminal, nothing elsewhere."""
    last = 0.0

    def show(have: int, total: int | None) -> None:
        nonlocal last
        done = have == total
        if sys.stderr.isatty() and (done or time.monotonic() - last > PROGRESS_EVERY_S):
            last = time.monotonic()
            of = f" of {total / 1e6:,.1f}" if total else ""
            print(f"\r{name}: {have / 1e6:,.1f}{of} MB", end="\n" if done else "", file=sys.stderr, flush=True)

    return show


def _verify(cfg: "ModelConfig", cache: "WeightsCache", cases: str | None, fingerprints: dict[str, str]) -> None:
    import numpy as np

    from aistudio.models import load_model
    from aistudio.weights.placing import place_files

    cfg = place_files(cfg, cache, fetch=False)
    _print_info(cfg)
    model = load_model(cfg)
    if model.image_tower_fingerprint:
        fingerprints[cfg.name] = model.image_tower_fingerprint
    size = model.image_spec.size
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    drawn = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(128)), axis=-1)[None]
    vectors = model.encode_images(np.ascontiguousarray(drawn))
    print(f"  image vector: {vectors.shape[1]} wide, length {np.linalg.norm(vectors[0]):.6f}")
    _smoke_score(cfg, model, vectors)
    if cases:
        _score_cases(cfg, model, Path(cases))


def _smoke_score(cfg: "ModelConfig", model: "ImageEncoder", vectors: "np.ndarray") -> None:
    """Print what the model makes of one image vector and SMOKE_TEXT."""
    from aistudio.models import Composer, Kind, RankingModel, RecallModel, kind

    match kind(cfg):
        case Kind.RANKING:
            score = cast(RankingModel, model).rank(vectors, [SMOKE_TEXT], [None])[0]
            print(f"  smoke score: {score:+.6f} (ranking, {SMOKE_TEXT})")
        case Kind.RECALL:
            recall = cast(RecallModel, model)
            print(f"  tokenizer: {SMOKE_TEXT} -> {recall.tokenize([SMOKE_TEXT])[0]}")
            print(f"  smoke score: {(vectors @ recall.encode_texts([SMOKE_TEXT]).T)[0, 0]:+.6f} (cosine)")
        case Kind.COMPOSER:
            query = cast(Composer, model).compose(vectors, [SMOKE_TEXT])
            import numpy as np

            print(f"  smoke query: length {np.linalg.norm(query[0]):.6f} ({SMOKE_TEXT})")


def _print_info(cfg: "ModelConfig") -> None:
    from aistudio.models import check_weights

    info = check_weights(cfg)
    print(f"{cfg.name} ({cfg.family}): {info.num_tensors} tensors, {info.num_parameters:,} numbers, {info.dim} wide")
    for path, digest in info.files.items():
        print(f"  {path}  sha256 {digest}")
    print(f"  fingerprint {info.fingerprint}")
    print(f"  pixels: {info.image_spec.size} x {info.image_spec.size}, {info.image_spec.resize}")


def _score_cases(cfg: "ModelConfig", model: "ImageEncoder", folder: Path) -> None:
    """Score a folder of cases: cases.json with `images` ({"file"}), `texts` and `rank_cases`."""
    import json

    import numpy as np

    from aistudio.config import ImagesSettings
    from aistudio.images.decode import decode
    from aistudio.models import load_detector

    try:
        cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
        bodies = [(folder / image["file"]).read_bytes() for image in cases["images"]]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(f"{folder}: not a folder of cases (cases.json and its images): {e}") from None
    detector = model.image_spec.detector
    weights = cfg.extra_files["detector"].path if detector else ""
    detectors = {detector: load_detector(detector, weights).cut} if detector else {}
    decoded = [decode(body, [model.image_spec], ImagesSettings(), detectors) for body in bodies]
    whole = [d.pixels[0] if d.pixels else None for d in decoded]
    black = np.zeros((model.image_spec.size, model.image_spec.size, 3), np.uint8)
    vectors = model.encode_images(np.stack([black if p is None else p for p in whole]))
    from aistudio.models import Kind, RankingModel, RecallModel, kind

    if kind(cfg) is Kind.RANKING:
        rows = cases.get("rank_cases", [])
        images = vectors[[row["image"] for row in rows]]
        titles, names = [row["title"] for row in rows], [row["poi_names"] for row in rows]
        scores = cast(RankingModel, model).rank(images, titles, names)
        for row, score in zip(rows, scores, strict=True):
            print(f"  {score:+.5f}  image {row['image']}  {row['poi_names'] or row['title']}")
        return
    if kind(cfg) is not Kind.RECALL:
        raise ConfigError(f"{cfg.name}: --cases wants a recall or a ranking model, not a {kind(cfg)}")
    similarity = vectors @ cast(RecallModel, model).encode_texts(cases["texts"]).T
    for image, row in zip(cases["images"], similarity, strict=True):
        best = int(row.argmax())
        print(f"  {row[best]:+.5f}  {image['file']}  {cases['texts'][best]}")


def _print_sharing(fingerprints: dict[str, str]) -> None:
    names = sorted(fingerprints)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if fingerprints[a] == fingerprints[b]:
                print(f"{a} and {b} have the same image tower: one pass serves both")
    if len(names) > 1 and len(set(fingerprints.values())) == len(names):
        print(f"{', '.join(names)}: image towers differ, each runs on its own")
