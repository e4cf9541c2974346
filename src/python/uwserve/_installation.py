"""Errors for an installation that lacks its extension or its files; their texts say how to repair it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


def without_extension(error: ImportError, package: str) -> ImportError:
    """The error for a missing ``_core`` in the folder ``package``; ``error`` itself if no better cause is known."""
    import glob
    import os
    import sysconfig

    if not os.path.isdir(package):
        return ImportError(
            f"uwserve cannot be imported from a zip archive ({package}): its extension must be a file of its own. "
            "Put it beside the archive (pip install --target), or use a tool that unpacks (shiv, PEX, PyInstaller)"
        )
    here = sysconfig.get_config_var("EXT_SUFFIX")
    there = [os.path.basename(path) for path in glob.glob(os.path.join(package, "_core.*.so"))]
    if f"_core{here}" in there:
        return error  # the extension exists, and the error names the library that it needs
    what = f"there is only {', '.join(there)}, for another Python or machine" if there else "it is not there"
    return ImportError(
        f"uwserve's extension _core{here} is missing in {package}: {what}. Install uwserve with this interpreter; "
        "a program that was packed must take it along"
    )


def read_page(path: Path) -> str:
    """The text of a page's file. ``FileNotFoundError`` explains which files a packed program lacks."""
    import errno

    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            errno.ENOENT,
            "a page of uwserve's is missing: a packed program must take the package's files along (PyInstaller does by "
            "itself; Nuitka: --include-package-data=uwserve)",
            str(path),
        ) from None
