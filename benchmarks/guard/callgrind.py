"""Reads what callgrind wrote: how many instructions an object has executed itself, and what it has called outside.

Format: valgrind's manual, "Callgrind Format Specification", with strings and positions not compressed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# What compilers append to the names of clones, valgrind to those of recursive calls, and glibc to those of the variants
# for one kind of processor.
CLONE = re.compile(r" \[clone [^]]*\]|(?:\.(?:lto_priv|constprop|isra|part|cold|llvm)(?:\.\d+)?)+$|'\d+$")
VARIANT = re.compile(r"^_*(mem\w+?|str\w+?)_(?:avx|sse|evex|ssse|erms|unaligned|generic|sve|mops)\w*$")


@dataclass
class Profile:
    """Of one object, in one part of a run."""

    functions: Counter[str] = field(default_factory=Counter)  # instructions of their own
    calls: Counter[str] = field(default_factory=Counter)  # of functions of other objects

    @property
    def instructions(self) -> int:
        return self.functions.total()


def plain(name: str) -> str:
    name = CLONE.sub("", name)
    variant = VARIANT.match(name)
    if variant:
        return variant.group(1)
    return "(a function without a name)" if name.startswith("0x") else name.split("@")[0]


def read(path: Path, object_name: str) -> Profile:
    """Of the object whose file name is ``object_name``."""
    profile = Profile()
    inside = callee_inside = is_inclusive = False
    function = callee = ""
    with path.open(errors="replace") as lines:
        for line in lines:
            if is_inclusive:  # the line after calls=: the cost of what was called
                is_inclusive = False
            elif inside and line[0].isdigit():
                profile.functions[function] += int(line.split()[1])
            elif line.startswith("ob="):
                inside = line.rstrip().endswith("/" + object_name)
                callee_inside = inside
            elif line.startswith("fn="):
                function = plain(line[3:].rstrip())
                callee_inside = inside
            elif line.startswith("cob="):
                callee_inside = line.rstrip().endswith("/" + object_name)
            elif line.startswith("cfn="):
                callee = plain(line[4:].rstrip())
            elif line.startswith("calls="):
                is_inclusive = True
                if inside and not callee_inside:
                    profile.calls[callee] += int(line[6:].split()[0])
                callee_inside = inside
    return profile
