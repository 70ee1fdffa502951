"""A loopback imitation of the Hugging Face Hub as models are fetched from it, with its faults."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cinefuse.tests.support.loopback import Quiet, serving

Fault = int | str | tuple[str, Any]
TOKEN = "hf_inventedtokenofthetests"


@dataclass
class ModelHub:
    """Repositories by id, each a folder; `faults` maps a part of an address to what its next requests meet, in order.

    A fault is a status, "html", "reset", "stall" (sends nothing for a while), "cut" (half of the body), ("limited",
    Retry-After).
    """

    models: dict[str, Path]
    url: str = ""
    gated: set[str] = field(default_factory=set)
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    stall: float = 30.0

    def meet(self, part: str, *faults: Fault) -> None:
        """Let the next requests whose address has `part` in it meet these faults."""
        self.faults.setdefault(part, deque()).extend(faults)

    def commit(self, model: str) -> str:
        """The commit hash of a repository."""
        return hashlib.sha1(model.encode()).hexdigest()

    def files(self, model: str) -> dict[str, bytes]:
        folder = self.models[model]
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _handler(hub: ModelHub) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            for part, pending in hub.faults.items():
                if part in f"{self.command} {path}" and pending:
                    return self.misbehave(pending.popleft(), path)
            return self.answer(path)

        def answer(self, path: str, share: float = 1.0) -> None:
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+|[^/]+)(?:/(revision|tree)/([^/]+))?", path):
                return self.api(*found.groups())
            if found := re.fullmatch(r"/([^/]+/[^/]+|[^/]+)/resolve/([^/]+)/(.+)", path):
                repo, revision, name = found.groups()
                return self.file(repo, revision, name, share)
            return self.send(404, b"{}", {})

        def allowed(self, model: str, revision: str | None) -> bool:
            if model not in hub.models:
                self.send(401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
                return False
            if model in hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
                return False
            if revision not in (None, "main", hub.commit(model)):
                self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
                return False
            return True

        def api(self, model: str, kind: str | None, revision: str | None) -> None:
            if model in hub.gated and kind != "tree":  # the page of a gated model is for everybody to see
                pass
            elif not self.allowed(model, revision):
                return None
            files = hub.files(model)
            if kind == "tree":
                listing = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
                return self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})
            content: dict[str, Any] = {"id": model, "modelId": model, "sha": hub.commit(model), "private": False}
            content |= {"siblings": [{"rfilename": name} for name in files], "tags": [], "gated": model in hub.gated}
            return self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def file(self, model: str, revision: str, name: str, share: float) -> None:
            if not self.allowed(model, revision):
                return None
            content = hub.files(model).get(name)
            headers = {"X-Repo-Commit": hub.commit(model)}
            if content is None:
                return self.send(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
            headers |= {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Accept-Ranges": "bytes"}
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if wanted:
                headers["Content-Range"] = f"bytes {wanted[1]}-{len(content) - 1}/{len(content)}"
                return self.send(206, content[int(wanted[1]) :], headers, share)
            return self.send(200, content, headers, share)

        def misbehave(self, fault: Fault, path: str) -> None:
            kind, more = fault if isinstance(fault, tuple) else (fault, None)
            if isinstance(kind, int):
                return self.send(kind, b"<html>sorry</html>", {"Content-Type": "text/html"})
            if kind == "limited":
                return self.send(429, b"{}", {"Retry-After": str(more)})
            if kind == "html":
                return self.send(200, b"<!DOCTYPE html><html>Please log in</html>", {"Content-Type": "text/html"})
            if kind == "cut":
                return self.answer(path, share=0.5)
            if kind == "stall":
                time.sleep(hub.stall)
            return self.reset()

        def send(self, status: int, body: bytes, headers: dict[str, str], share: float = 1.0) -> None:
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: int(len(body) * share)])
                if share < 1:
                    self.close_connection = True
            except OSError:
                self.close_connection = True

    return Handler


@contextmanager
def model_hub(models: dict[str, Path]) -> Iterator[ModelHub]:
    """Serve the imitation on loopback."""
    hub = ModelHub(models)
    with serving(_handler(hub)) as port:
        hub.url = f"http://127.0.0.1:{port}"
        yield hub
