"""Data sets of a hub on 127.0.0.1: repositories made of folders, branches that move, ranges, a token.

with DatasetHub() as hub:
    first = hub.commit("shop/photos", {"data/a.parquet": b"..."})   # the branch main now means this commit
    hub.tokens["shop/photos"] = "hf_..."                            # from now on only with it
"""

import hashlib
import json
from collections import Counter
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.local_hub import LocalHub


class DatasetHub(LocalHub):
    def __init__(self) -> None:
        self.commits: dict[tuple[str, str], dict[str, bytes]] = {}  # repository, commit -> files
        self.branches: dict[tuple[str, str], str] = {}  # repository, branch -> commit
        self.hits: Counter[str] = Counter()  # api, tree, file
        super().__init__()  # serves from here on

    def commit(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        sha = hashlib.sha1(f"{repo}{len(self.commits)}".encode()).hexdigest()
        self.commits[repo, sha] = files
        self.branches[repo, branch] = sha
        return sha

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = [unquote(p) for p in urlsplit(request.path).path.strip("/").split("/")]
        if len(parts) < 4:
            return self.send(request, 404, b"{}", {})
        api = parts[0] == "api"
        _, owner, name, *rest = parts[1:] if api else parts
        repo = f"{owner}/{name}"
        known = any(r == repo for r, _ in self.commits)
        if not known or self.denied(repo, request):
            return self.send(request, 401 if known else 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        revision = rest[1] if len(rest) > 1 else "main"
        sha = self.branches.get((repo, revision), revision)
        files = self.commits.get((repo, sha))
        if files is None:
            return self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if api and rest[:1] == ["tree"]:
            self.hits["tree"] += 1
            return self.send(request, 200, json.dumps(self._tree(files, "/".join(rest[2:]), request)).encode(), {})
        if api:
            self.hits["api"] += 1
            return self.send(request, 200, json.dumps({"id": repo, "sha": sha, "siblings": []}).encode(), {})
        self.hits["file"] += 1
        return self._file(request, files.get("/".join(rest[2:])))

    def _tree(self, files: dict[str, bytes], below: str, request: BaseHTTPRequestHandler) -> list[dict]:
        prefix = f"{below}/" if below else ""
        everything = "recursive=true" in request.path.lower()
        found: dict[str, dict] = {}
        for path, data in sorted(files.items()):
            if not path.startswith(prefix):
                continue
            folder, slash, _ = path[len(prefix) :].partition("/")
            if slash and not everything:
                found[prefix + folder] = {"type": "directory", "path": prefix + folder, "size": 0, "oid": "0" * 40}
                continue
            sha256 = hashlib.sha256(data).hexdigest()
            lfs = {"oid": sha256, "size": len(data), "pointerSize": 130}
            found[path] = {"type": "file", "path": path, "size": len(data), "oid": sha256[:40], "lfs": lfs}
        return list(found.values())

    def _file(self, request: BaseHTTPRequestHandler, body: bytes | None) -> None:
        if body is None:
            return self.send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        asked = request.headers.get("Range", "")
        if not asked.startswith("bytes="):
            return self.send(request, 200, body, {})
        first, _, last = asked[6:].partition("-")
        piece = body[int(first) : int(last) + 1 if last else None]
        where = {"Content-Range": f"bytes {first}-{int(first) + len(piece) - 1}/{len(body)}"}
        return self.send(request, 206, piece, where)
