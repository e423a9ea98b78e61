"""A small Hub on loopback, as true to the real one as `huggingface_hub` can tell, with faults on demand.

It keeps repositories with commits and branches, serves small files as git's and large ones as LFS files behind a
redirect, with the checksums that the Hub states, and takes uploads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

LARGE = (".ckpt", ".safetensors", ".bin", ".pkl")
REPOSITORY = r"(?P<repo>(?:spaces/|datasets/)?[^/]+/[^/]+)"


class Content:
    """A file's bytes with their checksums, computed once however often they are served."""

    def __init__(self, data: bytes):
        self.data = data

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def git(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()


@dataclass
class Repository:
    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    access: str = "open"  # or "private", "gated", with the token that opens it
    token: str = "hf_right"

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Fault:
    """What goes wrong with requests whose path contains `where`: at most `times` times."""

    where: str
    kind: str
    value: Any = None
    times: int = 10**9
    methods: tuple[str, ...] = ("GET",)


class StandInHub:
    """
    Use it as a context manager; `url` is its address.

    Faults (`fail(where, kind)`): `"break"` (half of the body, then the connection closes), `"short"` (half of the body
    without a length that tells), `"corrupt"` (the right size, one wrong byte), `"status"` (value: the code),
    `"delay"` (value: seconds), `"close"` (no answer), `"page"` (a network's login page).
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, Content] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.released = threading.Event()
        self.connections: list[socket.socket] = []
        # the real Hub keeps large files at another address, which gets no token
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(self)) for _ in range(2)]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in self._servers
        ]
        names = ("127.0.0.1", "localhost")
        self.url, self.cdn_url = (
            f"http://{name}:{server.server_port}" for name, server in zip(names, self._servers, strict=True)
        )

    def __enter__(self) -> StandInHub:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on connections are refused."""
        self.released.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            if thread.is_alive():
                server.shutdown()
                thread.join()
                server.server_close()
        for connection in self.connections:  # those that a client keeps open for its next request
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def commit(
        self, name: str, files: Mapping[str, bytes | Content], branch: str = "main", remove: tuple[str, ...] = ()
    ) -> str:
        """Add files to a repository (`"owner/name"`, `"spaces/owner/name"`) and return the commit's hash."""
        repository = self.repositories.setdefault(name, Repository())
        tree = dict(repository.commits.get(repository.branches.get(branch, ""), {}))
        for path, value in files.items():
            tree[path] = value if isinstance(value, Content) else Content(value)
        for path in remove:
            del tree[path]
        listing = json.dumps({path: content.sha256 for path, content in sorted(tree.items())})
        sha = hashlib.sha1(f"{name}{len(repository.commits)}{listing}".encode()).hexdigest()
        repository.commits[sha] = tree
        repository.branches[branch] = sha
        return sha

    def read(self, name: str, path: str, branch: str = "main") -> bytes:
        """A file as it stands on a branch."""
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]][path].data

    def commit_folder(self, name: str, folder: Path, **more: bytes) -> str:
        """Add all files of a folder."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return self.commit(
            name, {**{path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}, **more}
        )

    def fail(self, where: str, kind: str, value: Any = None, **options: Any) -> None:
        self.faults.append(Fault(where, kind, value, **options))

    def heal(self) -> None:
        self.faults.clear()

    def take_requests(self) -> list[tuple[str, str]]:
        """Requests (method, path) since the last time."""
        taken, self.requests = self.requests, []
        return taken

    def fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.where in path and method in fault.methods and fault.times > 0:
                fault.times -= 1
                return fault
        return None


@contextmanager
def served_hub(home: Path) -> Iterator[StandInHub]:
    """A stand-in Hub that `huggingface_hub` in this process talks to, with its cache in `home`.

    What the client reads from the environment when it is imported is replaced where it is kept.
    """
    from huggingface_hub import constants, hf_api

    with StandInHub() as hub, pytest.MonkeyPatch.context() as patch:
        values = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in values.items():
            patch.setattr(constants, name, value)
        patch.setattr(hf_api.api, "endpoint", hub.url)  # what `huggingface_hub.model_info` and its like ask
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            patch.delenv(name, raising=False)
        yield hub


def _handler(hub: StandInHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            hub.connections.append(self.connection)

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

        def do_GET(self) -> None:
            self.answer()

        do_HEAD = do_POST = do_PUT = do_GET

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            self.query = parse_qs(urlsplit(self.path).query)
            self.body = self.read_body()
            hub.requests.append((self.command, path))
            self.fault = hub.fault(self.command, path)
            kind = self.fault.kind if self.fault else None
            if kind == "close":
                self.close_connection = True
                return
            if kind == "delay":
                hub.released.wait(self.fault.value)
            if kind == "status":
                self.send(self.fault.value, b'{"error": "a fault"}')
            elif kind == "page":
                self.send(200, b"<html>Welcome to our network</html>", {"Content-Type": "text/html"})
            else:
                self.route(path)

        def route(self, path: str) -> None:
            for pattern, serve in (
                (rf"/{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", self.resolve),
                (r"/cdn/(?P<sha256>[0-9a-f]{64})", self.cdn),
                (r"/api/(?P<kind>models|spaces)/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?", self.info),
                (r"/api/(?P<kind>models|spaces)/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)", self.tree),
                (r"/api/repos/create", self.create),
                (r"/api/validate-yaml", self.validate),
                (r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", self.preupload),
                (rf"/{REPOSITORY}\.git/info/lfs/objects/batch", self.lfs_batch),
                (r"/upload/(?P<sha256>[0-9a-f]{64})", self.upload),
                (r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", self.take_commit),
            ):
                match = re.fullmatch(pattern, path)
                if match:
                    serve(**match.groupdict())
                    return
            self.send(404, b'{"error": "no such page"}')

        def open_repository(self, name: str, writes: bool = False, listing: bool = False) -> Repository | None:
            """The repository, or None after the answer that the real Hub gives."""
            repository = hub.repositories.get(name)
            right = repository is not None and self.headers.get("Authorization") == f"Bearer {repository.token}"
            if repository is None or (repository.access == "private" and not right):
                self.send(401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
                return None
            if repository.access == "gated" and not right and not listing:
                self.send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
                return None
            if writes and not right:
                self.send(403, b"{}", {"X-Error-Message": "Forbidden: you don't have the rights"})
                return None
            return repository

        def resolve(self, repo: str, revision: str, file: str) -> None:
            repository = self.open_repository(repo)
            if repository is None:
                return
            sha = repository.resolve(revision)
            if sha is None:
                self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            elif file not in repository.commits[sha]:
                self.send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            else:
                content = repository.commits[sha][file]
                headers = {"X-Repo-Commit": sha}
                if file.endswith(LARGE):
                    hub.blobs[content.sha256] = content
                    headers |= {"X-Linked-Etag": f'"{content.sha256}"', "X-Linked-Size": str(len(content.data))}
                    self.send(302, b"", {**headers, "Location": f"{hub.cdn_url}/cdn/{content.sha256}"})
                else:
                    self.send_content(content.data, {**headers, "ETag": f'"{content.git}"'})

        def cdn(self, sha256: str) -> None:
            self.send_content(hub.blobs[sha256].data, {"ETag": f'"{sha256}"'})

        def info(self, kind: str, repo: str, revision: str | None) -> None:
            name = repo if kind == "models" else f"{kind}/{repo}"
            repository = self.open_repository(name, listing=True)  # the file list of a gated one is public
            if repository is None:
                return
            sha = repository.resolve(revision or "main")
            if sha is None and repository.commits:
                self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return
            siblings = []
            for path, content in repository.commits.get(sha or "", {}).items():
                sibling: dict[str, Any] = {"rfilename": path}
                if "blobs" in self.query:
                    sibling |= {"size": len(content.data), "blobId": content.git}
                    if path.endswith(LARGE):
                        sibling["lfs"] = {
                            "sha256": content.sha256,
                            "size": len(content.data),
                            "pointerSize": 134,
                        }
                siblings.append(sibling)
            content = {"id": repo, "sha": sha, "private": repository.access == "private", "siblings": siblings}
            self.send_json({**content, "tags": [], "downloads": 0, "likes": 0})

        def tree(self, kind: str, repo: str, revision: str) -> None:
            repository = self.open_repository(repo if kind == "models" else f"{kind}/{repo}", listing=True)
            if repository is None:
                return
            entries = []
            for path, content in repository.commits[repository.resolve(revision) or ""].items():
                entries.append({"type": "file", "path": path, "size": len(content.data), "oid": content.git})
                if path.endswith(LARGE):
                    size = len(content.data)
                    entries[-1]["lfs"] = {"oid": content.sha256, "size": size, "pointerSize": 134}
            self.send_json(entries)

        def create(self) -> None:
            wanted = json.loads(self.body)
            name = f"{wanted['organization'] or 'me'}/{wanted['name']}"
            if not self.headers.get("Authorization"):
                self.send(401, b'{"error": "Unauthorized"}')
            elif name in hub.repositories:
                answer = {"error": "You already created this model repo", "url": f"{hub.url}/{name}"}
                self.send(409, json.dumps(answer).encode())
            else:
                access = "private" if wanted.get("private") or wanted.get("visibility") == "private" else "open"
                token = self.headers["Authorization"].removeprefix("Bearer ")
                hub.repositories[name] = Repository(access=access, token=token)
                self.send_json({"url": f"{hub.url}/{name}", "id": name})

        def validate(self) -> None:
            import yaml

            try:
                yaml.safe_load(json.loads(self.body)["content"].split("---")[1])
            except (yaml.YAMLError, IndexError) as error:
                self.send(400, json.dumps({"errors": [{"message": str(error)}]}).encode())
            else:
                self.send_json({"warnings": [], "errors": []})

        def preupload(self, repo: str, revision: str) -> None:
            if self.open_repository(repo, writes=True) is None:
                return
            files = [
                {
                    "path": entry["path"],
                    "uploadMode": "lfs" if entry["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for entry in json.loads(self.body)["files"]
            ]
            self.send_json({"files": files})

        def lfs_batch(self, repo: str) -> None:
            if self.open_repository(repo, writes=True) is None:
                return
            objects = [
                {**entry, "actions": {"upload": {"href": f"{hub.cdn_url}/upload/{entry['oid']}"}}}
                for entry in json.loads(self.body)["objects"]
            ]
            self.send_json({"transfer": "basic", "objects": objects})

        def upload(self, sha256: str) -> None:
            if hashlib.sha256(self.body).hexdigest() != sha256:
                self.send(400, b'{"error": "wrong checksum"}')
                return
            hub.blobs[sha256] = Content(self.body)
            self.send(200, b"")

        def take_commit(self, repo: str, revision: str) -> None:
            if self.open_repository(repo, writes=True) is None:
                return
            files: dict[str, bytes | Content] = {}
            for line in self.body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = hub.blobs[value["oid"]]
            sha = hub.commit(repo, files, branch=revision)
            self.send_json({"success": True, "commitOid": sha, "commitUrl": f"{hub.url}/{repo}/commit/{sha}"})

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def send_json(self, content: Any) -> None:
            self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def send_content(self, content: bytes, headers: Mapping[str, str]) -> None:
            """A file, or the part of it that is asked for, with the faults that concern content."""
            kind = self.fault.kind if self.fault else None
            if kind == "corrupt":
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            begin = 0
            span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if span and self.command == "GET":
                begin = int(span[1])
                headers = {**headers, "Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
            self.send_response(206 if begin else 200)
            for key, value in headers.items():
                self.send_header(key, value)
            if kind == "short":
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            if self.command == "HEAD":
                return
            part = content[begin:]
            if kind in ("break", "short"):
                # a connection that breaks again sends nothing more, so that the client gives up at last
                part = b"" if begin else part[: len(part) // 2]
                self.close_connection = True
            self.wfile.write(part)

    return Handler
