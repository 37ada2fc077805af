"""Where the final answer of a text stands: behind the thinking, inside the answer tag."""

from __future__ import annotations

import re

_ANSWER_TAG = re.compile(r"<\s?(/?)\s?answer\s?>", re.IGNORECASE)
_THOUGHT_TAG = re.compile(r"<\s?(/?)\s?think(?:ing)?\s?>", re.IGNORECASE)


def without_open_thought(text: str) -> str:
    """The text without a last thought that it never closed: that holds drafts, not an answer."""
    tags = list(_THOUGHT_TAG.finditer(text))
    return text[: tags[-1].start()] if tags and not tags[-1][1] else text


def answer_span(text: str) -> tuple[int, int]:
    """Where the answer stands, as (start, end): after the last thought and inside the last `<answer>` tag, if any.

    Tags with nothing in or after them do not count. JSON after `</answer>` is outside the span, but still later.
    """
    start, end = 0, len(text)
    for tag in _THOUGHT_TAG.finditer(text):
        start = tag.end()
    if not text[start:].strip():
        start = 0
    opened: int | None = None
    found = (start, end)
    for tag in _ANSWER_TAG.finditer(text, start):
        if not tag[1]:
            opened = tag.end()
        elif opened is not None:
            found = (opened, tag.start()) if text[opened : tag.start()].strip() else found
            opened = None
    return (opened, end) if opened is not None and text[opened:].strip() else found
