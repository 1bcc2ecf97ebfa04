"""Refuses files that should not be in git: large ones and keys. `python scripts/check_files.py FILE...`"""

import re
import sys
from pathlib import Path

MOST_BYTES = 1_000_000
# Made on purpose: weights of the demo, and the library that reports carry along.
LARGE = re.compile(r"weights/demo/|aistudio/reports/assets/echarts")
KEYS = {
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "an AWS key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b(?<!EXAMPLE)"),
    "an access token": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{34}|xox[abpr]-[0-9A-Za-z-]{20,})\b"),
}


def problems(path: Path) -> list[str]:
    """What is wrong with one file."""
    body = path.read_bytes()
    found = [f"{path}: holds {what}" for what, pattern in KEYS.items() if pattern.search(body)]
    if len(body) > MOST_BYTES and not LARGE.match(path.as_posix()):
        found.append(f"{path}: {len(body):,} bytes, at most {MOST_BYTES:,}; large files belong to a store")
    return found


def main() -> int:
    """Print what is wrong with the files of the command line; 1 where anything is."""
    found = [line for name in sys.argv[1:] if Path(name).is_file() for line in problems(Path(name))]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
