"""How the page looks and behaves beside what gradio brings: its theme, style and script.

Enters: the files beside this one. Leaves: texts that stand in the page itself; fonts are those of
the visitor's system.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

HERE = Path(__file__).parent
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "Consolas", "Liberation Mono", "monospace")


def style() -> str:
    """The page's own rules, after gradio's."""
    return (HERE / "listen.css").read_text(encoding="utf-8")


def head() -> str:
    """What stands in the page's head."""
    script = (HERE / "listen.js").read_text(encoding="utf-8")
    return f'<meta name="color-scheme" content="light dark">\n<script>\n{script}</script>'


def theme() -> gr.themes.Base:
    """The pages' colours; text has a contrast of at least 4.5 to its ground, light and dark."""
    return gr.themes.Base(primary_hue="blue", neutral_hue="gray", font=FONT, font_mono=MONO).set(
        body_background_fill="#ffffff",
        body_background_fill_dark="#14171c",
        body_text_color="#1b1f24",
        body_text_color_dark="#e8eaed",
        body_text_color_subdued="#57606a",
        body_text_color_subdued_dark="#a4acb6",
        block_background_fill="#f5f6f8",
        block_background_fill_dark="#1d2127",
        block_label_text_color="#1b1f24",
        block_label_text_color_dark="#e8eaed",
        block_label_background_fill="#f5f6f8",
        block_label_background_fill_dark="#1d2127",
        block_title_text_color="#1b1f24",
        block_title_text_color_dark="#e8eaed",
        block_info_text_color="#57606a",
        block_info_text_color_dark="#a4acb6",
        border_color_primary="#d9dde3",
        border_color_primary_dark="#363c45",
        input_background_fill="#ffffff",
        input_background_fill_dark="#14171c",
        input_border_color="#8a929c",
        input_border_color_dark="#78818c",
        input_placeholder_color="#57606a",
        input_placeholder_color_dark="#a4acb6",
        button_primary_background_fill="#0b62a8",
        button_primary_background_fill_hover="#084a80",
        button_primary_background_fill_dark="#7cb8f0",
        button_primary_background_fill_hover_dark="#a3cef6",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#10202f",
        button_secondary_text_color="#1b1f24",
        button_secondary_text_color_dark="#e8eaed",
        link_text_color="#0b62a8",
        link_text_color_dark="#7cb8f0",
        color_accent="#0b62a8",
        border_color_accent="#0b62a8",
        border_color_accent_dark="#7cb8f0",
    )
