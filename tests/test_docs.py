"""The references of commands and settings are the program's own; links in docs lead somewhere.

After a change of commands or settings: `UPDATE_DOCS=1 python -m pytest tests/test_docs.py`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import typer

import app
from embedder.presets import PRESETS
from embedder.settings import SETTINGS, build_config

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def options() -> str:
    """A table of options for each command, from the command line itself."""
    parts = []
    for name, command in typer.main.get_command(app.app).commands.items():
        help_text = (command.help or "").strip().splitlines()
        example = next(line.strip() for line in help_text if line.strip().startswith("Example:"))
        parts.append(f"**`{name}`** {help_text[0]} {example.replace('Example: ', 'Example: `')}`\n")
        parts.append("| option | meaning | default |\n| --- | --- | --- |")
        for option in command.params:
            spelled = option.opts[0]
            if spelled == "--help":
                continue
            unset = option.default is None or option.default is False or callable(option.default)
            shown = "required" if option.required else "" if unset else f"`{option.default}`"
            parts.append(f"| `{spelled}` | {cell(option.help or '')} | {shown} |")
        parts.append("")
    return "\n".join(parts)


def cell(text: str) -> str:
    """A text as it must stand in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def settings() -> str:
    """Every setting with its default, its legal values and its meaning."""
    values = build_config().to_dict()
    lines = ["| setting | default | legal | meaning |", "| --- | --- | --- | --- |"]
    for name, one in SETTINGS.items():
        default, legal, meaning = values[one.group][name], cell(one.legal), cell(one.meaning)
        lines.append(f"| `{name}` | {default} | {legal} | {meaning} |")
    presets = [
        f"`{name}` changes {', '.join(f'`{k}` to {v}' for k, v in preset['all'].items())}"
        for name, preset in PRESETS.items()
        if preset["all"]
    ]
    return "\n".join([*lines, "", "Preset " + "; preset ".join(presets) + ".", ""])


GENERATED = {
    "commands.md": ("Every command", "Options may be spelled with dashes too.", options),
    "settings.md": ("Every setting", "`train-embedder --set name=value` changes one.", settings),
}


@pytest.mark.parametrize("name", GENERATED)
def test_the_reference_is_the_programs_own(name: str) -> None:
    title, sentence, table = GENERATED[name]
    file, text = ROOT / "docs" / name, f"# {title}\n\n{sentence}\n\n{table()}"
    if os.environ.get("UPDATE_DOCS"):
        file.write_text(text, encoding="utf-8", newline="\n")
    assert file.read_text(encoding="utf-8") == text, (
        "run: UPDATE_DOCS=1 python -m pytest tests/test_docs.py"
    )


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_docs_name_every_command_and_no_other() -> None:
    commands = set(typer.main.get_command(app.app).commands)
    for page in PAGES:
        named = set(re.findall(r"python app\.py ([a-z][a-z-]*)", page.read_text(encoding="utf-8")))
        assert named <= commands, page
    by_hand = [page for page in PAGES if page.name not in GENERATED]
    text = "\n".join(page.read_text(encoding="utf-8") for page in by_hand)
    assert [name for name in commands if not re.search(rf"(app\.py |`){name}\b", text)] == []
