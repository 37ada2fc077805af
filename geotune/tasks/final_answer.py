"""Locate the final answer of a text: after the model's thoughts and inside its answer tag."""

from __future__ import annotations

import re

_ANSWER_TAG = re.compile(r"<\s?(/?)\s?answer\s?>", re.IGNORECASE)
_THOUGHT_TAG = re.compile(r"<\s?(/?)\s?think(?:ing)?\s?>", re.IGNORECASE)


def without_open_thought(text: str) -> str:
    """Cut off a last thought that the text never closes: it holds drafts, not an answer."""
    tags = list(_THOUGHT_TAG.finditer(text))
    return text[: tags[-1].start()] if tags and not tags[-1][1] else text


def answer_span(text: str) -> tuple[int, int]:
    """Return the (start, end) of the answer: after the last thought and inside the last `<answer>` tag, if any.

    Tags with nothing in or after them do not count. JSON that follows `</answer>` lies outside the span, but readers
    that take the last JSON after `start` still see it.
    """
    start, end = 0, len(text)
    for tag in _THOUGHT_TAG.finditer(text):
        start = tag.end()
    if not text[start:].strip():
        start = 0
    opened: int | None = None
    span = (start, end)
    for tag in _ANSWER_TAG.finditer(text, start):
        if not tag[1]:
            opened = tag.end()
        elif opened is not None:
            span = (opened, tag.start()) if text[opened : tag.start()].strip() else span
            opened = None
    return (opened, end) if opened is not None and text[opened:].strip() else span
