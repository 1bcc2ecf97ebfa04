"""A Hugging Face hub on 127.0.0.1 with repositories made of folders: branches that move, commits, a token.

with FakeHub() as hub:
    first = hub.commit("shop/tiny", folder)      # the branch main now means this commit
    hub.tokens["shop/tiny"] = "hf_..."           # from now on only with it
"""

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.local_hub import LocalHub


class FakeHub(LocalHub):
    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Path]] = {}  # repository -> commit -> folder
        self.branches: dict[str, dict[str, str]] = {}  # repository -> branch -> commit
        self.asked: list[str] = []  # paths
        super().__init__()  # serves from here on

    def commit(self, repo: str, folder: Path, branch: str = "main") -> str:
        sha = hashlib.sha1(f"{repo}{len(self.commits.get(repo, {}))}".encode()).hexdigest()
        self.commits.setdefault(repo, {})[sha] = folder
        self.branches.setdefault(repo, {})[branch] = sha
        return sha

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append(path)
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if api else parts[:2])
        if repo not in self.commits or self.denied(repo, request):
            self.send(request, 401 if repo in self.tokens else 404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        revision = (parts[5] if len(parts) > 5 else "main") if api else parts[3]
        sha = self.branches[repo].get(revision, revision)
        folder = self.commits[repo].get(sha)
        if folder is None:
            self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif api and len(parts) > 4 and parts[4] == "tree":
            found = [p for p in sorted(folder.rglob("*")) if p.is_file()]
            tree = [{"type": "file", "path": p.relative_to(folder).as_posix(), "size": p.stat().st_size,
                     "oid": hashlib.sha1(p.read_bytes()).hexdigest()} for p in found]  # fmt: skip
            self.send(request, 200, json.dumps(tree).encode(), {})
        elif api:
            files = [{"rfilename": p.relative_to(folder).as_posix()} for p in sorted(folder.rglob("*")) if p.is_file()]
            self.send(request, 200, json.dumps({"id": repo, "sha": sha, "siblings": files}).encode(), {})
        else:
            self._file(request, folder / "/".join(parts[4:]), sha)

    def _file(self, request: BaseHTTPRequestHandler, file: Path, sha: str) -> None:
        if not file.is_file():
            self.send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        body = file.read_bytes()
        self.send(request, 200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": sha})
