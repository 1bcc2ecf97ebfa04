"""Tar and zip archives written for tests, whole and broken."""

import io
import tarfile
import warnings
import zipfile


def tar_of(members: dict[str, bytes] | list[tuple[str, bytes]], format=tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(members: dict[str, bytes] | list[tuple[str, bytes]], method=zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as file:
        warnings.simplefilter("ignore")  # a name twice is meant
        for name, data in members.items() if isinstance(members, dict) else members:
            file.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def header(name: str, size: int) -> bytes:
    """A tar header alone, of any size."""
    info = tarfile.TarInfo(name)
    info.size = max(size, 0)
    block = info.tobuf(tarfile.GNU_FORMAT)
    if size >= 0:
        return block
    field = (size + (1 << 96)).to_bytes(12, "big")  # base 256, negative
    raw = bytearray(block[:124] + field + block[136:])
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)
