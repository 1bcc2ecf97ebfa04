"""Pictures that visitors ask with: uploaded ones, and those whose address they give. Kept for a while, by checksum."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from aistudio.config import DownloadSettings, ImageSpec, ImagesSettings, JobConfig, ServeSettings
from aistudio.images.download import Downloader
from aistudio.schema import Status
from aistudio.serving.decoder import SafeDecoder
from aistudio.serving.errors import Refused

FETCH_TIMEOUT_S = 15.0
TRIES = 0  # further ones: a visitor waits
TOO_LARGE = (Status.TOO_LARGE, Status.IMAGE_TOO_LARGE)


@dataclass
class Photo:
    """A decoded picture of a visitor: what models need of it, and a small one to show."""

    name: str  # sha256 of its bytes, hex
    pixels: dict[ImageSpec, NDArray[np.uint8]]
    body: bytes | None  # kept where a detector must look at the whole picture
    thumbnail: bytes | None
    width: int | None
    height: int | None
    vectors: dict[str, Any] = field(default_factory=dict)  # by engine, as its model gave them


class Photos:
    """Takes pictures in, and finds them again by name; the last `photos_kept` are kept."""

    def __init__(self, config: JobConfig, settings: ServeSettings, specs: Sequence[ImageSpec]) -> None:
        self._settings = settings
        self._specs = tuple(dict.fromkeys(s for s in specs if s.crop != "model"))
        self._keep_body = any(s.crop == "model" for s in specs)
        self._images = visitors_images(config.images, settings)
        self._decoder = SafeDecoder(self._images, settings.decode_timeout_s)
        self._kept: OrderedDict[str, Photo] = OrderedDict()
        self._lock = threading.Lock()
        self._download = visitors_download(config.download, settings)
        self._downloader: Downloader | None = None
        self._store = config.store

    def warm_up(self) -> None:
        """Start the decoding process."""
        self._decoder.warm_up()

    def take(self, body: bytes) -> Photo:
        """Decode an uploaded picture and keep it. Raises Refused (413 too large, 422 no picture)."""
        if len(body) > self._settings.max_upload_bytes:
            raise Refused(413, f"the picture has more than {self._settings.max_upload_bytes:,} bytes")
        found = self._decoder.decode(body, self._specs)
        if found.status != Status.OK or found.content_hash is None:
            code = 413 if found.status in TOO_LARGE else 422
            raise Refused(code, f"this cannot be used as a picture: {found.status}: {found.error or 'unknown'}")
        pixels = dict(zip(self._specs, found.pixels, strict=True))
        body_kept = body if self._keep_body else None
        photo = Photo(found.content_hash, pixels, body_kept, found.thumbnail, found.width, found.height)
        with self._lock:
            photo = self._kept.setdefault(photo.name, photo)
            self._kept.move_to_end(photo.name)
            while len(self._kept) > self._settings.photos_kept:
                self._kept.popitem(last=False)
        return photo

    def fetch(self, address: str) -> Photo:
        """Fetch, decode and keep the picture at an address of the open internet. Raises Refused."""
        if not self._settings.fetch_addresses:
            raise Refused(403, "asking with addresses is switched off here (serve.fetch_addresses)")
        address = address.strip()
        try:
            scheme = urlsplit(address).scheme.lower()
        except ValueError:
            scheme = ""
        if scheme not in ("http", "https"):  # the downloader would take files and S3 too
            raise Refused(422, "an address of a picture begins with http:// or https://")
        with self._lock:
            if self._downloader is None:
                self._downloader = Downloader(self._download, self._store)
        [(_, fetched)] = list(self._downloader.stream([(address, None)]))
        if fetched.status != Status.OK or fetched.body is None:
            error = str(fetched.error).split(" (download.")[0]  # no visitor can change settings
            raise Refused(413 if fetched.status in TOO_LARGE else 422, f"{fetched.status}: {error}")
        return self.take(fetched.body)

    def get(self, name: str) -> Photo:
        """Return a picture that was taken in. Raises Refused (404) where it is not kept any more."""
        with self._lock:
            if (found := self._kept.get(name)) is None:
                raise Refused(404, "this photograph is no longer kept here: choose it again")
            self._kept.move_to_end(name)
            return found

    def close(self) -> None:
        """End the decoding process and the downloads."""
        self._decoder.close()
        if self._downloader is not None:
            self._downloader.close()


def visitors_images(images: ImagesSettings, settings: ServeSettings) -> ImagesSettings:
    """As the run decoded, with the server's limits, and a picture to show."""
    limits = {
        "max_pixels": min(images.max_pixels, settings.max_upload_pixels),
        "thumbnail_px": images.thumbnail_px or 160, "decode_timeout_s": settings.decode_timeout_s,
    }  # fmt: skip
    return images.model_copy(update=limits)


def visitors_download(download: DownloadSettings, settings: ServeSettings) -> DownloadSettings:
    """As the run fetched, but as a stranger: no headers, no mapping, no proxy, no private address.

    A proxy would resolve names itself, so names of private addresses would pass.
    """
    return download.model_copy(
        update={
            "allow_private_addresses": False, "headers": {}, "url_map": {}, "trust_env_proxy": False,
            "cache": None, "retries": TRIES, "max_bytes": min(download.max_bytes, settings.max_upload_bytes),
            "timeout_s": min(download.timeout_s, FETCH_TIMEOUT_S), "concurrency": 8, "per_host_concurrency": 2,
        }
    )  # fmt: skip
