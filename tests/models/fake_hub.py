"""A Hugging Face hub on 127.0.0.1 with repositories made of folders: branches that move, commits, a token.

with FakeHub() as hub:
    first = hub.commit("shop/tiny", folder)      # the branch main now means this commit
    hub.tokens["shop/tiny"] = "hf_..."           # from now on only with it
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class FakeHub:
    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Path]] = {}  # repository -> commit -> folder
        self.branches: dict[str, dict[str, str]] = {}  # repository -> branch -> commit
        self.tokens: dict[str, str] = {}
        self.asked: list[str] = []  # paths
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def commit(self, repo: str, folder: Path, branch: str = "main") -> str:
        sha = hashlib.sha1(f"{repo}{len(self.commits.get(repo, {}))}".encode()).hexdigest()
        self.commits.setdefault(repo, {})[sha] = folder
        self.branches.setdefault(repo, {})[branch] = sha
        return sha

    def __enter__(self) -> "FakeHub":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append(path)
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if api else parts[:2])
        if repo not in self.commits or self._denied(repo, request):
            self._send(request, 401 if repo in self.tokens else 404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        revision = (parts[5] if len(parts) > 5 else "main") if api else parts[3]
        sha = self.branches[repo].get(revision, revision)
        folder = self.commits[repo].get(sha)
        if folder is None:
            self._send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif api and len(parts) > 4 and parts[4] == "tree":
            found = [p for p in sorted(folder.rglob("*")) if p.is_file()]
            tree = [{"type": "file", "path": p.relative_to(folder).as_posix(), "size": p.stat().st_size,
                     "oid": hashlib.sha1(p.read_bytes()).hexdigest()} for p in found]  # fmt: skip
            self._send(request, 200, json.dumps(tree).encode(), {})
        elif api:
            files = [{"rfilename": p.relative_to(folder).as_posix()} for p in sorted(folder.rglob("*")) if p.is_file()]
            self._send(request, 200, json.dumps({"id": repo, "sha": sha, "siblings": files}).encode(), {})
        else:
            self._file(request, folder / "/".join(parts[4:]), sha)

    def _denied(self, repo: str, request: BaseHTTPRequestHandler) -> bool:
        token = self.tokens.get(repo)
        return token is not None and request.headers.get("Authorization") != f"Bearer {token}"

    def _file(self, request: BaseHTTPRequestHandler, file: Path, sha: str) -> None:
        if not file.is_file():
            self._send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        body = file.read_bytes()
        self._send(request, 200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": sha})

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
