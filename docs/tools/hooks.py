"""What MkDocs calls while it builds: generated pages, generated parts of pages, and links from code to the reference.

Generated pages: the API reference, the examples, the changelog and CONTRIBUTING. Generated parts, each on a line of its
own in a page: ``{{ command line }}``, ``{{ charts }}``, ``{{ screenshot }}``.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
import reference

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
COMMENT = re.compile(r"^[ ]*<!--.*?-->[ ]*\n", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(<a\b.*?</a>|<pre\b.*?</pre>|<h[1-6]\b.*?</h[1-6]>)|<code>([^<]*)</code>", re.DOTALL)
# The first column of a table there is the other library's.
CODE_OF_OURS = re.compile(CODE.pattern.replace("(", r"(<tr>\s*<td>.*?</td>|", 1), re.DOTALL)
OWNERS = {"ws": "ServerWebSocket", "server": "Server", "request": "Request", "uwserve": ""}

_made = reference.Reference()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the reference, and put its pages into the navigation."""
    global _made
    _made = reference.make()
    if _made.errors:
        raise PluginError("\n".join(["the API reference is incomplete:", *_made.errors]))
    pages = [{title.strip("`"): f"reference/{page}"} for page, title in sorted(_made.titles.items(), key=_rank)]
    for entry in config.nav or []:
        if isinstance(entry, dict) and "API reference" in entry:
            entry["API reference"] = pages
    return config


def _rank(item: tuple[str, str]) -> int:
    order = ["index", *reference.OWN_PAGE, "others"]
    name = item[0].removesuffix(".md")
    return order.index(name) if name in order else len(order)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are in no folder of ``docs``."""
    generated = {f"reference/{page}": text for page, text in _made.pages.items()}
    generated["examples.md"] = examples()
    generated["changelog.md"] = (ROOT / "CHANGELOG.md").read_text()
    generated["contributing.md"] = (ROOT / "CONTRIBUTING.md").read_text()
    for path, text in generated.items():
        files.append(File.generated(config, path, content=text))
    for chart in charts():
        files.append(File.generated(config, f"images/charts/{chart.name}", abs_src_path=str(chart)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Drop comments (they are for the tests), fill in the generated parts."""
    markdown = COMMENT.sub("", markdown)
    parts = {"command line": command_line, "charts": chart_images, "screenshot": screenshot}
    return re.sub(r"^\{\{ (.+) \}\}$", lambda match: parts[match[1]](), markdown, flags=re.MULTILINE)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Code that names a member of the API becomes a link to it; but not where it is another library's."""

    def link(match: re.Match[str]) -> str:
        target = None if match[1] else _target(match[2])
        if target is None:
            return match[0]
        place, _, anchor = target.partition("#")
        file = files.get_file_from_path(f"reference/{place}")
        if file is None:
            raise PluginError(f"there is no page reference/{place}")
        return f'<a class="api" href="{file.url_relative_to(page.file)}#{anchor}">{match[0]}</a>'

    is_about_others = page.file.src_uri.startswith("coming-from/")
    return (CODE_OF_OURS if is_about_others else CODE).sub(link, html)


def _target(code: str) -> str | None:
    """Where the reference tells of ``code``: ``ws.send``, ``server.stop(True)``, ``uwserve.Headers``."""
    name = re.match(r"(?:await )?([A-Za-z_][\w.]*)", code)
    if name is None or not re.fullmatch(r"(?:await )?[\w.]+(\(.*\))?", code):
        return None
    owner, dot, rest = name[1].partition(".")
    if dot and owner in OWNERS:
        return _made.names.get(f"{OWNERS[owner]}.{rest}".lstrip("."))
    return _made.names.get(name[1]) if dot or name[1][0].isupper() or code in ("serve", "serve()") else None


def examples() -> str:
    """Every file of ``examples/``, under what its docstring says first."""
    intro = "Each is a program of its own in `examples/`, and the test suite runs each with a real client."
    parts = ["# Examples", intro]
    for path in sorted((ROOT / "examples").glob("*.py")):
        source = path.read_text()
        text = ast.get_docstring(ast.parse(source)) or ""
        parts.append(f'## {path.name}\n\n{text}\n\n```python title="examples/{path.name}"\n{_body(source)}\n```')
    return "\n\n".join(parts) + "\n"


def _body(source: str) -> str:
    """``source`` without its docstring."""
    first = ast.parse(source).body[0]
    return "\n".join(source.splitlines()[first.end_lineno or 0 :]).strip("\n")


def command_line() -> str:
    """What ``uwserve --help`` and the help of each command print."""
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}

    def printed(*arguments: str) -> str:
        command = [sys.executable, "-m", "uwserve", *arguments, "--help"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PluginError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.rstrip()

    overview = printed()
    commands = re.findall(r"^    (\w+)(?: |$)", overview, re.MULTILINE)
    if not commands:
        raise PluginError("uwserve --help names no command")
    texts = [("uwserve", overview), *((f"uwserve {command}", printed(command)) for command in commands)]
    return "\n\n".join(f"## `{name}`\n\n```text\n{text}\n```" for name, text in texts)


def screenshot() -> str:
    """The dashboard, of which `make screenshot` takes the picture."""
    if not (ROOT / "docs" / "images" / "dashboard.png").exists():
        return ""
    return "![Live charts of connections, messages, backlog, topics and latency](../images/dashboard.png)"


def charts() -> list[Path]:
    """What the benchmarks have drawn."""
    return sorted((ROOT / "benchmarks" / "charts").glob("*.svg"))


def chart_images() -> str:
    names = {chart: chart.stem.replace("_", " ").replace("-", " ") for chart in charts()}
    if not names:
        return "Charts are drawn by `make charts` into `benchmarks/charts`; there are none in this tree."
    return "\n\n".join(f"![{name}](images/charts/{chart.name})" for chart, name in names.items())
