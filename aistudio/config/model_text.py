"""A model in one string: where a setting takes a conf file, it takes these too.

    hf://org/name[@revision]           an image-text dual encoder of the Hugging Face hub (family hf_dual)
    open_clip:MODEL/TAG                one of OpenCLIP's, such as open_clip:ViT-B-16-SigLIP/webli
    open_clip:org/name[@revision]      a hub repository in OpenCLIP's layout
    timm:NAME, timm:org/name[@rev]     an image encoder of timm, such as timm:vit_small_patch14_dinov2
    st:org/name[@revision]             an image-text model of sentence-transformers

`revision` is a branch, tag or commit; the driver resolves it to a commit, which all nodes use and run.json records.
"""

import re
from typing import Any

from aistudio.errors import ConfigError

_FAMILIES = {"hf": "hf_dual", "open_clip": "open_clip", "timm": "timm", "st": "sentence_transformers"}
_TEXT = re.compile(r"(hf)://(.*)|(open_clip|timm|st):(?!//)(.*)", re.S)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_REVISION = re.compile(r"[\w][\w./-]*")


def is_model_text(text: object) -> bool:
    """Whether a setting that names a conf names a model itself."""
    return isinstance(text, str) and _TEXT.fullmatch(text.strip()) is not None


def model_of_text(text: str) -> dict[str, Any]:
    """Return the settings, as of a conf file, of a model in one string.

    >>> model_of_text("hf://google/siglip2-base-patch16-256@main")["arch"]
    {'model': 'google/siglip2-base-patch16-256', 'revision': 'main', 'padding': 'auto'}

    Raises:
        ConfigError: no such name is possible.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text}: not a model; expected hf://org/name, open_clip:MODEL/TAG, timm:NAME or st:org/name")
    kind, rest = match[1] or match[3], match[2] if match[1] else match[4]
    name, at, revision = rest.partition("@")
    whole = "/" in name or kind == "timm"
    if not _NAME.fullmatch(name) or not whole or ".." in name or (at and not _REVISION.fullmatch(revision)):
        form = {"hf": "hf://org/name[@revision]", "open_clip": "open_clip:MODEL/TAG or open_clip:org/name[@revision]"}
        form |= {"timm": "timm:NAME or timm:org/name[@revision]", "st": "st:org/name[@revision]"}
        raise ConfigError(f"{text}: expected {form[kind]}")
    arch = {"model": name, **({"revision": revision} if at else {}), **({"padding": "auto"} if kind == "hf" else {})}
    return {"family": _FAMILIES[kind], "name": name, "weights": {"path": text.strip()}, "arch": arch}
