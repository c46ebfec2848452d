"""Makes the site's reference from the code while mkdocs builds: commands, settings, methods, tasks, recipes, messages, the API, examples.

A hook of mkdocs (mkdocs.yml). Each page says what the installed code says, so that nothing has to be kept equal by hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import dyme
from dyme.cli.listing.methods import needs
from dyme.cli.main import COMMANDS, build_parser
from dyme.methods import METHODS
from dyme.recipe import documentation, shipped
from dyme.settings import documentation as settings_of
from dyme.tasks import TASKS

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(file for file in (ROOT / "examples").rglob("*") if file.suffix in (".py", ".md") and "__pycache__" not in file.parts)
ROOMS = {
    "__init__": "import dyme",
    "api": "From Python",
    "checks": "Settings that do not go together",
    "cli": "Options of commands",
    "comparison": "Comparisons and studies",
    "data": "Rows and pictures",
    "integrations": "TRL",
    "model": "Checkpoints",
    "plugins": "Your own functions",
    "publishing": "Export and hub",
    "recipe": "Recipes",
    "rollout": "vLLM servers",
    "settings": "Values of settings",
    "supervise": "Helpers",
    "system": "Files and processes",
    "tracking": "Run folders and trackers",
    "verify": "Answers and rewards",
}
"""Part of the code -> what its messages are about."""
_ERRORS = re.compile(r"(\w*Error|\w*Gone|Diverged|Stopped)$")
_EXAMPLE = re.compile(r"\]\((?:\.\./)+examples/?([^)]*)\)")
_NAMED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the reference."""
    for name, make in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to examples, which lie outside the pages, into links to the page that shows them."""
    up = "../" * page.file.src_uri.count("/")
    text = _EXAMPLE.sub(lambda found: f"]({up}reference/examples.md{_anchor(found[1])})", markdown)
    return re.sub(r"\[([^]]*)\]\((?:\.\./)+(?:" + "|".join(map(re.escape, _NAMED)) + r")(?:#[^)]*)?\)", r"\1", text)


def commands() -> str:
    """Return the help of every command."""
    parser = build_parser()
    shown = [action for action in parser._actions if hasattr(action, "choices") and isinstance(action.choices, dict)]
    own = shown[0].choices
    parts = [
        "# Commands",
        "",
        "What `dyme COMMAND --help` says. Any setting can be given as `--section.key value` where a command takes settings.",
        "",
    ]
    for name, command in COMMANDS.items():
        text = own[name].format_help().replace(f"{parser.prog} {name}", f"dyme {name}")
        parts += [f"## dyme {name}", "", f"{command.summary[0].upper()}{command.summary[1:]}.", "", "```text", text.rstrip(), "```", ""]
    return "\n".join(parts)


def settings() -> str:
    """Return every setting of a recipe, with its default and meaning."""
    parts = ["# Settings", "", "A recipe is a TOML file with these tables; on the command line a setting is `--section.key value`.", ""]
    for section, keys in documentation().items():
        parts += [f"## {section}", "", "| setting | default | meaning |", "|---|---|---|"]
        parts += [f"| `{section}.{key}` | `{_cell(default)}` | {_cell(text)} |" for key, (default, text) in keys.items()]
        parts.append("")
    return "\n".join(parts)


def methods() -> str:
    """Return every method, its source, needs and settings."""
    parts = ["# Methods", "", "[What each is and where it departs from its paper](../methods.md).", ""]
    for method in METHODS.values():
        parts += [
            f"## {method.name}",
            "",
            f"{_plain(method.summary)}.",
            "",
            f"Needs: {needs(method)}. Source: {_plain(method.source)}.",
            "",
        ]
        own = settings_of(method.settings)
        if own:
            parts += ["| setting | default | meaning |", "|---|---|---|"]
            parts += [f"| `method.{key}` | `{_cell(default)}` | {_cell(text)} |" for key, (default, text) in own.items()]
            parts.append("")
    return "\n".join(parts)


def tasks() -> str:
    """Return every task."""
    parts = [
        "# Tasks",
        "",
        "[How answers are compared](../metrics.md).",
        "",
        "| task | what it is | metric | tested on |",
        "|---|---|---|---|",
    ]
    parts += [f"| `{t.name}` | {_cell(t.summary)} | {_cell(t.metric)} | {_cell(t.status)} |" for t in TASKS.values()]
    return "\n".join(parts) + "\n"


def recipes() -> str:
    """Return every recipe that ships, in full."""
    parts = ["# Recipes", "", "`dyme train NAME` takes one by name; `dyme recipes NAME` writes it into a file of yours.", ""]
    for name, file in shipped().items():
        parts += [f"## {name}", "", "```toml", file.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(parts)


def messages() -> str:
    """Return every message of an error that the program can print, by the part of it that prints it."""
    parts = [
        "# Messages",
        "",
        "Every message of an error that a user can meet, as the code has it; `...` stands for what is filled in. Search this page, or the "
        "site, for a few words of yours. [What to do about the commonest](../trouble.md).",
        "",
    ]
    for room, found in _raised().items():
        parts += [f"## {ROOMS.get(room, room.capitalize())}", "", *(f"- {_code(text)}" for text in found), ""]
    return "\n".join(parts)


def api() -> str:
    """Return the public names, for mkdocstrings to fill in."""
    functions = [name for name in dyme.__all__ if callable(getattr(dyme, name)) and not isinstance(getattr(dyme, name), type)]
    classes = [name for name in dyme.__all__ if isinstance(getattr(dyme, name), type)]
    values = [name for name in dyme.__all__ if name not in (*functions, *classes)]
    parts = ["# Python API", "", "The names of `import dyme`. [How they are used](../python.md).", "", "## Functions", ""]
    parts += [f"::: dyme.api.{name}" for name in functions] + ["", "## Classes", ""]
    parts += [f"::: {getattr(dyme, name).__module__}.{getattr(dyme, name).__qualname__}" for name in classes]
    parts += ["", "## Values", ""] + [f"- `dyme.{name}`" for name in values]
    return "\n\n".join(parts) + "\n"


def examples() -> str:
    """Return the examples of the repository, in full."""
    parts = ["# Examples", "", "Files of the repository's `examples/`, each run by a test.", ""]
    for file in EXAMPLES:
        name = file.relative_to(ROOT / "examples").as_posix()
        parts += [
            f"## {name}",
            "",
            f"````{'python' if file.suffix == '.py' else 'markdown'}",
            file.read_text(encoding="utf-8").rstrip(),
            "````",
            "",
        ]
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    make.__name__: make for make in (commands, settings, methods, tasks, recipes, messages, api, examples)
}
"""Name of each page of the reference -> the function that makes it."""


def _raised() -> dict[str, list[str]]:
    """Return the texts of all errors that are raised in the package, by room."""
    found: dict[str, set[str]] = {}
    package = ROOT / "src/dyme"
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _ERRORS.search(_name(node.func)):
                found.setdefault(room, set()).update(text for text in map(_text, node.args[:1]) if len(text.replace("...", "").split()) > 2)
    return {room: sorted(texts, key=str.casefold) for room, texts in sorted(found.items()) if texts}


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _text(node: ast.expr) -> str:
    """Return the text of a literal, with ... for what is filled in; "" for anything else."""
    return re.sub(r"(\.\.\.\s*){2,}", "... ", "".join(_pieces(node))).strip()


def _pieces(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield part.value if isinstance(part, ast.Constant) else "..."
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _pieces(node.left)
        yield from _pieces(node.right)
    elif isinstance(node, ast.Name | ast.IfExp | ast.Call):
        yield "..."


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    """Return text in which Markdown and HTML mean nothing."""
    return text.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[").rstrip(".")


def _code(text: str) -> str:
    """Return text as code, whatever it holds."""
    return f"`` {' '.join(text.split())} ``"


def _anchor(name: str) -> str:
    """Return the place of an example on their page; notebooks and folders have none."""
    file = ROOT / "examples" / name
    return "#" + re.sub(r"[^\w-]", "", name.lower().replace(" ", "-")) if file in EXAMPLES else ""
