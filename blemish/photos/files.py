"""Files: whether one lies in another's folder, and writing one so that it is whole or is not there."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

__all__ = ["lies_in", "write_whole"]


def lies_in(path: Path, folder: Path) -> bool:
    """Returns whether a path is a folder (or file) that exists, or lies below it.

    Compared are files and not names: links and the case of letters do not matter.
    """
    if not folder.exists():
        return False
    resolved = path.resolve()
    return any(p.exists() and p.samefile(folder) for p in (resolved, *resolved.parents))


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, or replaces one, whose permissions are kept.

    The content goes to a hidden file beside it, which then takes its name; whatever stops that, that file is
    removed. A link is replaced, not written through.

    Arguments:
        path: The file; its folder is made where it is missing.
        content: What is written.

    Raises:
        OSError: If there is no space or no permission, with the file's name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        if path.is_file() and not path.is_symlink():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
