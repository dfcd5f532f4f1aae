"""README's lists of options and settings are the program's own.

After a change of the command line: `UPDATE_README=1 python -m pytest tests/test_readme.py`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import typer

import app
from embedder.presets import PRESETS
from embedder.settings import all_settings, build_config, legal_values

README = Path(__file__).parents[1] / "README.md"


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
    for name, (group, item, _) in all_settings().items():
        default, meaning = values[group][name], cell(item.metadata["meaning"])
        lines.append(f"| `{name}` | {default} | {cell(legal_values(name))} | {meaning} |")
    presets = [
        f"`{name}` changes {', '.join(f'`{k}` to {v}' for k, v in preset['all'].items())}"
        for name, preset in PRESETS.items()
        if preset["all"]
    ]
    return "\n".join([*lines, "", "Preset " + "; preset ".join(presets) + ".", ""])


def with_generated(text: str) -> str:
    """README's text with both generated blocks written anew."""
    for name, made in (("options", options()), ("settings", settings())):
        begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        assert len(pattern.findall(text)) == 1, f"README.md must have one block {begin} … {end}"
        text = pattern.sub(lambda _, b=begin, m=made, e=end: f"{b}\n{m}\n{e}", text)
    return text


def test_readme_lists_the_programs_own_options_and_settings() -> None:
    text = README.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_README"):
        README.write_text(with_generated(text), encoding="utf-8", newline="\n")
        text = README.read_text(encoding="utf-8")
    assert text == with_generated(text), (
        "run: UPDATE_README=1 python -m pytest tests/test_readme.py"
    )


def test_every_file_that_readme_points_to_is_there() -> None:
    text = README.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_readmes_commands_exist() -> None:
    text = README.read_text(encoding="utf-8")
    commands = set(typer.main.get_command(app.app).commands)
    named = set(re.findall(r"python app\.py ([a-z][a-z-]*)", text))
    assert named
    assert named <= commands
    assert commands <= named
