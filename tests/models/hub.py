"""A model hub on loopback: what the published `huggingface_hub` client asks, answered as the public hub answers it.

Large files are redirected to another server (another port here), whose addresses carry no token; small ones come at
once. Everything that was asked is kept.
"""

import hashlib
import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_MODEL = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+?)(/(?P<what>revision|tree)/(?P<revision>[^/]+))?/?")
_SMALL = 1024  # bytes of a file that git holds itself: its ETag is git's, and no sha256 of it is told


@dataclass(frozen=True)
class Asked:
    """A request: of which server, how, for what, with which range and token."""

    server: str
    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Hub:
    """What the hub has and how it fails.

    files: by repository and path. private: the token that a repository needs. gated: repositories that answer 403 to
    everybody. broken: by sha256 of a file, the count of bytes after which the connection ends. stalled: likewise, after
    which nothing more comes. released: set to end what is stalled.
    """

    files: dict[str, dict[str, bytes]]
    endpoint: str = ""
    cdn: str = ""
    private: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    broken: dict[str, int] = field(default_factory=dict)
    stalled: dict[str, int] = field(default_factory=dict)
    released: threading.Event = field(default_factory=threading.Event)
    sending: threading.Event = field(default_factory=threading.Event)
    asked: list[Asked] = field(default_factory=list)

    def downloads(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.server == "cdn"]

    def by_digest(self, digest: str) -> bytes | None:
        for files in self.files.values():
            for content in files.values():
                if sha256(content) == digest:
                    return content
        return None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def environment_of(hub: Hub, folder: Path) -> dict[str, str]:
    """What the tool is run with: the hub, a folder of families in `folder`, and no token or cache of this user's."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(folder / "hf"),
        "HF_TOKEN_PATH": str(folder / "no-token"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "FOOOCUS_FAMILIES": str(folder / "families"),
    }


@contextmanager
def serving(files: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """A hub with these files, by repository and path."""
    hub = Hub(files)

    class HubHandler(_Handler):
        server_name, told = "hub", hub

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if found := _RESOLVE.fullmatch(path):
                self._resolve(found["repo"], found["revision"], found["path"])
            elif found := _MODEL.fullmatch(path):
                self._model(found["repo"], found["what"], found["revision"] or "main")
            else:
                self.refuse(404, "EntryNotFound")

        def _may(self, repo: str) -> bool:
            token = hub.private.get(repo)
            given = self.headers.get("authorization")
            if repo in hub.gated:
                self.refuse(403, "GatedRepo")
            elif repo not in hub.files or (token is not None and given != f"Bearer {token}"):
                self.refuse(401, "RepoNotFound")  # the hub does not tell who asks without a right what there is
            else:
                return True
            return False

        def _resolve(self, repo: str, revision: str, path: str) -> None:
            if not self._may(repo):
                return
            if revision not in ("main", COMMIT):
                self.refuse(404, "RevisionNotFound")
                return
            content = hub.files[repo].get(path)
            if content is None:
                self.refuse(404, "EntryNotFound", {"X-Repo-Commit": COMMIT})
            elif len(content) <= _SMALL:
                self.send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{_git(content)}"'})
            else:
                digest = sha256(content)
                headers = {
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-Size": str(len(content)),
                    "X-Linked-ETag": f'"{digest}"',
                    "Location": f"{hub.cdn}/{digest}?signature=of-these-minutes",
                }
                self.send(302, b"", headers)

        def _model(self, repo: str, what: str | None, revision: str) -> None:
            if not self._may(repo):
                return
            if revision not in ("main", COMMIT):
                self.refuse(404, "RevisionNotFound")
                return
            files = hub.files[repo]
            if what == "tree":
                content: object = [_tree_entry(path, files[path]) for path in sorted(files)]
            else:
                siblings = [{"rfilename": path} for path in sorted(files)]
                content = {"_id": "0", "id": repo, "modelId": repo, "sha": COMMIT, "private": repo in hub.private}
                content |= {"siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
            self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    class CdnHandler(_Handler):
        server_name, told = "cdn", hub

        def answer(self) -> None:
            digest = urlsplit(self.path).path.strip("/")
            content = hub.by_digest(digest)
            if content is None:
                self.refuse(404, "EntryNotFound")
                return
            start = int(found[1]) if (found := re.match(r"bytes=(\d+)-", self.headers.get("range") or "")) else 0
            headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            end = min(hub.broken.get(digest, len(content)), hub.stalled.get(digest, len(content)))
            self.send(206 if start else 200, content[start:], headers, until=max(end - start, 0))
            if digest in hub.stalled:
                hub.sending.set()
                hub.released.wait(60)
            if end < len(content):
                self.close_connection = True

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (HubHandler, CdnHandler)]
    hub.endpoint, hub.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler, ABC):
    protocol_version = "HTTP/1.1"
    server_name: str
    told: Hub

    @abstractmethod
    def answer(self) -> None:
        """Answer a GET or a HEAD."""

    def do_GET(self) -> None:
        self._note()
        self.answer()

    do_HEAD = do_GET

    def _note(self) -> None:
        asked = (self.server_name, self.command, self.path, self.headers.get("range"))
        self.told.asked.append(Asked(*asked, self.headers.get("authorization")))

    def send(self, status: int, content: bytes, headers: dict[str, str], until: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(content[:until])
                self.wfile.flush()
            except OSError:  # the client has left
                self.close_connection = True

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": f"{code} of the tests' hub"}
        self.send(status, b"", told | (headers or {}))

    def log_message(self, format: str, *args: object) -> None:
        pass


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324  # as git has it


def _tree_entry(path: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": _git(content)}
    if len(content) > _SMALL:
        entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
    return entry
