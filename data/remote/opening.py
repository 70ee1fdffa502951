"""Open a remote file, whatever its address: on the Hub, on a web server, in a store, in a folder."""

from __future__ import annotations

from contextlib import closing

from ..embeddings.format.header import Header
from ..embeddings.format.header_checks import parse_header, user_block_size
from ..runtime.errors import DamagedFile
from .address import hub_place, is_web
from .remote_file import RemoteFile, Span, read_span
from .retry import Retry, with_retries
from .store import StoreFile
from .web_file import WebFile

HEAD = 2**15  # bytes: the user block and, of nearly all files, the HDF5 metadata


def open_remote(address: str, retry: Retry) -> RemoteFile:
    """The file at `address`: hf://datasets/OWNER/NAME[@REV]/FILE.h5, http(s)://, anything fsspec knows, or a path.

    Raises BadInput where it cannot be read, UsageError for an address or package that is not there.
    """
    if place := hub_place(address):
        from .hub import open_hub_file

        return open_hub_file(place, retry)
    return WebFile(address, retry) if is_web(address) else StoreFile.open(address, retry)


def checked_head(head: bytes, remote: RemoteFile) -> Header | None:
    """The header in the first `HEAD` bytes of a remote file. Raises DamagedFile unless it is an embedding file's.

    None where they are not all of it, or where the server gives no size to check it against.
    """
    _refuse_other_things(head, remote.shown)
    block = user_block_size(head, remote.shown)
    if remote.size is None or len(head) < block:
        return None
    return parse_header(head[:block], remote.size, remote.shown)


def first_bytes(remote: RemoteFile, retry: Retry) -> bytes:
    """The first `HEAD` bytes of a remote file, or all there are, however its server sends them."""
    if remote.ranges and remote.size is not None:
        return read_span(remote, Span(0, min(HEAD, remote.size)), retry)

    def from_the_start() -> bytes:
        head = bytearray()
        with closing(remote.stream(0, None)) as blocks:
            for block in blocks:
                head += block
                if len(head) >= HEAD:
                    break
        return bytes(head)

    return with_retries(retry, remote.shown, from_the_start)


def _refuse_other_things(head: bytes, shown: str) -> None:
    """Name what often lies where a file was expected."""
    start = head[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise DamagedFile(
            f"{shown}: expected a cinefuse embedding file, found a web page; take the address of the file itself"
        )
    if start.startswith(b"version https://git-lfs"):
        raise DamagedFile(
            f"{shown}: expected a cinefuse embedding file, found a Git LFS pointer to one; take the file itself"
        )
