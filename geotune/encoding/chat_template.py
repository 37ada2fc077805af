"""Render conversations as text with a model's chat template."""

from __future__ import annotations

from typing import Any

from geotune.errors import ConfigError, Problem
from geotune.sample import IMAGE_TAG


def chosen_template(templates: Any, path: str) -> str:
    """Return the chat template of a model that may have several: the one named `default`, or else the only one.

    templates: as a processor or tokenizer has them, a text, a mapping by name, a list of {name, template}, or None.
    path: of the model, for messages. Raises ConfigError if there is none, or if none of several is the default.
    """
    if isinstance(templates, list):
        templates = {entry.get("name"): entry.get("template") for entry in templates if isinstance(entry, dict)}
    if isinstance(templates, dict):
        only = next(iter(templates.values())) if len(templates) == 1 else None
        if (chosen := templates.get("default", only)) is None and templates:
            text = f"it has the chat templates {', '.join(map(str, templates))}, and none is named default"
            raise ConfigError(Problem("backbone.path", path, text, "name one of them default in its tokenizer's files"))
        templates = chosen
    if not isinstance(templates, str):
        raise ConfigError(Problem("backbone.path", path, "its processor has no chat template", "save one with it"))
    return templates


class ChatTemplate:
    """Renders a conversation up to the opening of the assistant's next turn, as generation starts from it.

    source: the Jinja template. image_newline: whether the template itself ends an image with a line break; a line break
    that follows an image in a record is then dropped.
    """

    def __init__(self, tokenizer: Any, source: str, *, image_newline: bool) -> None:
        self.tokenizer = tokenizer
        self.source = source
        self.image_newline = image_newline

    def user_content(self, text: str) -> list[dict[str, str]]:
        """Split a user's turn into the text and image parts that chat templates read."""
        parts: list[dict[str, str]] = []
        for number, piece in enumerate(text.split(IMAGE_TAG)):
            if number:
                parts.append({"type": "image"})
                if self.image_newline:
                    piece = piece.removeprefix("\n")
            if piece:
                parts.append({"type": "text", "text": piece})
        return parts

    def render(self, system: str, turns: tuple[tuple[str, str], ...]) -> str:
        """Return the text of the conversation, including the words that open the assistant's next turn.

        turns: (role, text) of each turn. An empty `system` leaves the system prompt to the template.
        """
        messages: list[dict[str, Any]] = []
        if system:
            messages.append({"role": "system", "content": [{"type": "text", "text": system}]})
        for role, text in turns:
            content = self.user_content(text) if role == "user" else [{"type": "text", "text": text}]
            messages.append({"role": role, "content": content})
        rendered = self.tokenizer.apply_chat_template(
            messages, chat_template=self.source, tokenize=False, add_generation_prompt=True
        )
        assert isinstance(rendered, str)
        return rendered

    def text_after_answer(self) -> str | None:
        """Return what follows an answer, up to and including the next opening of the assistant's turn.

        None if the template rewrites earlier turns, so that there is no telling.
        """
        first = self.render("", (("user", "a"),))
        second = self.render("", (("user", "a"), ("assistant", "b"), ("user", "a")))
        return second.removeprefix(first + "b") if second.startswith(first + "b") else None
