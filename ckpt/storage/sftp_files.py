"""What is asked of an SFTP server, one coroutine each, for files and folders given by their paths there."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import AsyncIterator

import asyncssh
from asyncssh import FXF_CREAT, FXF_EXCL, FXF_READ, FXF_WRITE, SFTPAttrs, SFTPClient, SFTPClientFile

from ckpt.errors import UnsupportedStorageError
from ckpt.storage.keys import TEMPORARY
from ckpt.storage.temporaries import is_leftover, new_temporary

GONE = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
"""Nothing has this path. OpenSSH's server says so too if a part of it is a file."""

_FOLDERS = 20
"""How often a folder is made again when others keep removing it as empty."""


def lacks(extension: str, purpose: str, where: str, cause: Exception) -> UnsupportedStorageError:
    """The refusal of a server that cannot do what safety depends on."""
    what = f"the server does not do {extension}, without which a file cannot be {purpose}: {cause}"
    fix = "use OpenSSH's sftp-server (and a file system with hard links), or another kind of store"
    return UnsupportedStorageError(what, where=where, fix=fix)


async def size_of(client: SFTPClient, path: str) -> int:
    """Length of a file; SFTPNoSuchFile if there is none, or a folder."""
    found = await client.stat(path)
    if not _is_file(found):
        raise asyncssh.SFTPNoSuchFile(f"{path} is not a file")
    return found.size or 0


async def read_range(client: SFTPClient, path: str, start: int, length: int | None) -> bytes:
    """Up to ``length`` bytes from ``start`` on, all if None; fewer only where the file ends."""
    left = max(0, await size_of(client, path) - start)
    wanted = left if length is None else min(length, left)
    if wanted == 0:
        return b""
    async with client.open(path, FXF_READ, encoding=None) as file:
        data: bytes = await file.read(wanted, start)
        return data


async def create_file(client: SFTPClient, path: str) -> SFTPClientFile:
    """A new empty file, open, at ``path``, which nothing has; its folder is made where it is missing."""
    for _ in range(_FOLDERS):
        try:
            return await client.open(path, FXF_WRITE | FXF_CREAT | FXF_EXCL, encoding=None)
        except GONE:  # not made yet, or removed as empty by a delete elsewhere
            await _make_folders(client, posixpath.dirname(path))
    return await client.open(path, FXF_WRITE | FXF_CREAT | FXF_EXCL, encoding=None)


async def link(client: SFTPClient, path: str, name: str) -> bool:
    """Give the file at ``path`` one more ``name``, whose folder is made where it is missing; False if the server refuses."""
    await size_of(client, path)
    await _make_folders(client, posixpath.dirname(name))
    try:
        await client.link(path, name)
    except GONE:
        raise
    except (asyncssh.SFTPOpUnsupported, asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure):
        return False
    return True


async def _make_folders(client: SFTPClient, folder: str) -> None:
    """Make a folder and those above it; another process that makes or removes them meanwhile is no error."""
    try:
        await client.makedirs(folder, exist_ok=True)
    except asyncssh.SFTPError:
        if not await client.isdir(folder) and not await client.isdir(posixpath.dirname(folder)):
            raise


async def finish(file: SFTPClientFile, where: str) -> None:
    """Make an open file durable and close it. UnsupportedStorageError if the server cannot."""
    try:
        await file.fsync()
    except (asyncssh.SFTPOpUnsupported, asyncssh.SFTPPermissionDenied) as error:
        raise lacks("fsync@openssh.com", "made durable", where, error) from error
    finally:
        await file.close()


async def sync_folders(client: SFTPClient, folders: list[str], where: str) -> None:
    """Make the names in ``folders`` durable, in this order. UnsupportedStorageError if the server cannot."""
    for folder in folders:
        await finish(await client.open(folder, FXF_READ, encoding=None), where)


async def remove_file(client: SFTPClient, path: str) -> bool:
    """Delete a file: True if there was one. A folder is no file."""
    try:
        await client.remove(path)
    except GONE:
        return False
    except asyncssh.SFTPError:
        if await client.isdir(path):
            return False
        raise
    return True


async def remove_empty_folders(client: SFTPClient, folder: str, root: str) -> list[str]:
    """Delete ``folder`` and those above it, below ``root``, as long as they are empty; what is gone."""
    gone = []
    while folder != root:
        try:
            await client.rmdir(folder)
        except asyncssh.SFTPError:  # not empty, or gone: whoever else removes or fills it has taken over
            break
        gone.append(folder)
        folder = posixpath.dirname(folder)
    return gone


async def child_names(client: SFTPClient, folder: str) -> list[str]:
    """The names in ``folder`` that are files, or folders with a file somewhere below, sorted."""
    found = []
    for name, attributes in await _entries(client, folder):
        if _is_file(attributes) or (_is_folder(attributes) and await _has_files(client, f"{folder}/{name}")):
            found.append(name)
    return sorted(found)


async def _has_files(client: SFTPClient, folder: str) -> bool:
    async for _path, _attributes in walk(client, folder):
        return True
    return False


async def walk(client: SFTPClient, folder: str, *, unfinished: bool = False) -> AsyncIterator[tuple[str, SFTPAttrs]]:
    """Paths of all files below ``folder``, relative to it, in any order: finished ones, or only ``unfinished`` ones."""
    folders = [""]
    while folders:
        at = folders.pop()
        for name, attributes in await _entries(client, posixpath.join(folder, at), unfinished=unfinished):
            path = posixpath.join(at, name)
            if _is_folder(attributes):
                folders.append(path)
            elif _is_file(attributes) and name.startswith(TEMPORARY) is unfinished:
                yield path, attributes


async def remove_leftovers(client: SFTPClient, root: str) -> list[str]:
    """Delete the unfinished files below ``root`` that nobody will finish; their paths, relative to it, sorted."""
    if not await client.isdir(root):
        return []
    clock_file = f"{root}/{new_temporary()}"
    try:
        async with client.open(clock_file, FXF_WRITE | FXF_CREAT | FXF_EXCL, encoding=None) as file:
            now_s = (await file.stat()).mtime or 0  # the server's clock, which the files' times are of, not ours
        old = [
            path
            async for path, attributes in walk(client, root, unfinished=True)
            if is_leftover(posixpath.basename(path), now_s - (attributes.mtime or now_s))
        ]
        return sorted([path for path in old if await remove_file(client, f"{root}/{path}")])
    finally:
        await remove_file(client, clock_file)


async def _entries(client: SFTPClient, folder: str, *, unfinished: bool = False) -> list[tuple[str, SFTPAttrs]]:
    """What is in ``folder``: names and attributes; nothing if it is not there. Unfinished files only if asked for."""
    try:
        found = [(str(entry.filename), entry.attrs) async for entry in client.scandir(folder)]
    except GONE:
        return []
    return [
        (name, attributes)
        for name, attributes in found
        if name not in (".", "..") and (unfinished or not name.startswith(TEMPORARY))
    ]


def _is_file(attributes: SFTPAttrs) -> bool:
    return attributes.permissions is not None and stat.S_ISREG(attributes.permissions)


def _is_folder(attributes: SFTPAttrs) -> bool:
    return attributes.permissions is not None and stat.S_ISDIR(attributes.permissions)
