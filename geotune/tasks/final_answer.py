r"""The project's only reader of what a model finally answers, apart from thoughts, calls of tools and comments.

| What a text holds | What counts |
| --- | --- |
| thoughts: `<think>`, `<thought>`, `<reasoning>`, `<analysis>`, `<|thinking|>`, `◁think▷`, channels but `final` | no |
| thoughts in brackets: `[THINK]`, and if it is closed, `[REASONING]` or the like | no |
| a closing tag of a thought without an opening one, which the prompt may hold | nothing before it |
| a thought that is never closed | nothing after its opening tag, and before it only answer tags |
| answer tags: `<answer>`, `<final_answer>`, `<solution>`, `<|begin_of_box|>`, the channel `final` | the last ones |
| what follows answer tags | nothing: it is a comment |
| answer tags with nothing but dots inside | nothing inside and before them, but what follows them |
| an answer tag that is never closed | all that follows it |
| a closing answer tag without an opening one, which the prompt may hold | what stands before it |
| answer tags that are joined by "or", "and", "vs", a comma or a slash | all of them, as one answer |
| `\boxed{}`, in answer tags or without any | the last box, as if it were answer tags |
| boxes in one line or in adjacent lines; a box beside a sign, a unit or a hemisphere | their whole lines |
| a box in a sentence with a doubt or denial ("not", "maybe", "or") | its whole line |
| calls of a tool that is named `answer`, `submit_answer` or the like | like answer tags |
| other calls of tools, and their results | no |
| a mark of the end of the turn (`<|im_end|>`) | nothing from there on |
| comments, `<!-- -->` | no |
| tags in quotes or backticks | nothing: they are mentioned, not used |

Tags are read in any case, with spaces and attributes. The time taken is linear in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

TEXT_MARKS = "<[{\\\u25c1"
"""Characters with which tags, boxes, escapes and JSON begin: a text without them is all answer."""
_ATTRIBUTES = r"(?:\s[^<>=]{0,60}=[^<>]{0,100}+)?\s{0,3}"
_THINKING = r"think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis|drafts?|plan"
_THOUGHT = rf"(?:[a-z]{{1,12}}[:_])?(?:{_THINKING})"
_ANSWER = r"(?:final[ _-]?)?answer|final|solution|conclusion"
# A set of characters comes first in this pattern and the next one, so that other characters are passed over quickly.
_TAG = re.compile(
    rf"""
    [<\[\u25c1]
    (?: (?<=<) (?=[\s/|a-z!]) (?:
        \s{{0,3}} (?P<slash>/?) \s{{0,3}} (?: (?P<thought>{_THOUGHT}) | (?P<answer>{_ANSWER}) ) {_ATTRIBUTES}>
      | \|? (?P<tool_slash>/?) (?P<tool>(?:tool|function)_?(?:call|use|code|response|result|output)s?) {_ATTRIBUTES}\|?>
      | \| (?:
          (?:begin|start|(?P<end>end))_ (?:of_)? (?: (?P<long_thought>thought|thinking) | (?P<box>box|solution) ) \|>
        | channel\|> \s? (?P<channel>[a-z]{{1,20}}) [^<>]{{0,100}}+ <\|message\|>
        | (?P<message_end> (?:end|return|call|start)\|> )
        | (?P<bar_slash>/?) (?P<bar>{_THINKING}) \|>
      )
      | (?P<comment>!--)
      )
    | (?<!<) \s? (?P<bracket_slash>/?) \s? (?P<bracket>{_THINKING}) \s? (?:\]|\u25b7)
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SLASH = {
    "thought": "slash",
    "answer": "slash",
    "tool": "tool_slash",
    "bar": "bar_slash",
    "bracket": "bracket_slash",
} | dict.fromkeys(("long_thought", "box"), "end")
"""The group that matches only in closing tags, by the last group of a tag, which tells its kind."""
_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{", re.IGNORECASE)
_BRACE = re.compile(r"\\[{}\\]|[{}]")
_TURN_END = re.compile(
    r"<(?:\|(?:im_end|im_start|endoftext|end_of_text|end_of_turn|eot_id|eom_id)\|"
    "|end_of_turn|start_of_turn|eos|\uff5cend\u2581of\u2581sentence\uff5c)>",
    re.IGNORECASE,
)
_LAST = ("</s>", "<|return|>")
_LAST_TOKENS = re.compile(r"(?:\s|</s>|<\|return\|>)++", re.IGNORECASE)
_CONTENT = re.compile(r"[^\s.\u2026]")
_JOINED = re.compile(
    r"\s*(?:[,;/|&]|(?:,\s*)?(?:(?:and/or|and|or)(?:\s+(?:maybe|perhaps|possibly|not))?|(?:and\s+|but\s+)?not|vs\.?|versus"
    r"|alternatively)(?!\w),?)\s*",
    re.IGNORECASE,
)
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
# Words and signs beside a box that qualify what it holds.
_LATEX = r"(?:[\s$,*_~(]|\\[\[\](),;:! ]|\\(?:text|mathrm|mathbf)\{){0,9}"
_BEFORE_BOX = re.compile(
    rf"(?:\b(?:not|never|nor|neither|either|or|than|of|except)|n't|[-\u2212+\u00b1~<>\d]){_LATEX}\Z", re.IGNORECASE
)
_AFTER_BOX = re.compile(
    rf"{_LATEX}(?:(?:[NSEW]|or|nor|north|south|east|west|degrees?|is|isn't)(?![^\W\d_])"
    r"|\^?\{?\\circ|\\pm|[\u00b0\u2032'\d%/\u00b1?])",
    re.IGNORECASE,
)
# Words that doubt, deny or qualify the answer of their sentence.
_HEDGE = re.compile(
    r"\b(?:not|cannot|never|neither|nor|either|or|maybe|perhaps|possibl[ey]|might|may|could|would|unlikely|hardly|less"
    r"|rul(?:e|es|ed|ing) out|exclud\w{1,4}|except|eliminat\w{1,4}|reject\w{0,4}|wrong|incorrect|doubt\w{0,4}|if|unless"
    r"|opposite|instead|rather|other|hemispheres?|latitudes?|longitudes?|lat|lon|lng|vs|versus|but|although|though|however|alternative(?:ly)?)\b|n['\u2019]t\b|\?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!](?=\s)|\n")
_NEAR = 60
_TOOL_NAME = re.compile(r"""\bname["']?\s{0,3}[:=]\s{0,3}["']?([\w.-]{1,60})""", re.IGNORECASE)
_ANSWER_TOOL = re.compile(
    r"answer|submit|final|finish|"
    r"(?:(?:give|submit|return|report|provide|state)(?:the|your|my)?(?:final)?|final)"
    r"(?:answer|result|response|prediction|guess|location|coordinates|choice)"
)


class FinalAnswer(NamedTuple):
    """The final answer of a text: `text` stands at `start`; "" if there is none, or if tags or a box hold nothing.

    Calls of tools inside it are blanked.
    """

    text: str
    start: int
    marked: bool
    """Whether tags or a box hold the answer."""
    closing: str
    """The tag that would close the thought in which the text ends, "" if it ends outside of thoughts."""
    turn_end: int
    """Position at which the model's turn ends."""


class _Mark(NamedTuple):
    """Answer tags that are not empty: they hold `text[start:end]` and end at `after`."""

    start: int
    end: int
    after: int


def final_answer(text: str) -> str:
    """Return the text of the final answer, as the table of this module tells; "" if there is none."""
    return find_answer(text).text


def find_answer(text: str) -> FinalAnswer:
    """Find the final answer of a text, as the table of this module tells."""
    scan = _Scan(text, _end_of_turn(text))
    for tag in _TAG.finditer(text, 0, scan.end):
        if not _mentioned(text, *tag.span()):
            scan.read(tag)
    start, end, marked = scan.region()
    answer = _blanked(text, start, end, scan.holes)
    if (box := _boxed(answer)) is not None:
        start, answer, marked = start + box[0], answer[box[0] : box[1]], True
    closing = _closing_tag(scan.thought) if scan.thought else ""
    if not answer.strip():
        return FinalAnswer("", start if marked else len(text), marked, closing, scan.end)
    return FinalAnswer(answer, start, marked, closing, scan.end)


@dataclass
class _Scan:
    """What is known of a text up to a position: the answer tags before it, and which tags are open."""

    text: str
    end: int
    since: int = 0
    """Position from which on plain text may be the answer."""
    marks: list[_Mark] = field(default_factory=list)
    holes: list[tuple[int, int, str]] = field(default_factory=list)
    """Where parts that are not read begin and end, and the white space that begins what replaces them."""
    comment_end: int = 0
    """Position at which the last comment ends."""
    comments: bool = True
    """Whether the text may hold further comments that are closed."""
    closings: dict[str, int] = field(default_factory=dict)
    """Position of the last closing tag in brackets, by its name; -1 if there is none."""
    thought: re.Match[str] | None = None
    """The tag that opened a thought."""
    opened: re.Match[str] | None = None
    """The tag that opened an answer."""
    tool: re.Match[str] | None = None
    """The tag that opened a call of a tool or its result."""

    def read(self, tag: re.Match[str]) -> None:
        """Read the next tag."""
        kind = tag.lastgroup or ""
        closes = kind in _SLASH and bool(tag[_SLASH[kind]])
        if tag.start() < self.comment_end:
            return
        if kind in ("thought", "bar", "bracket", "long_thought"):
            if closes:
                self.close_thought(tag.end())
            elif self.thought is None and (kind != "bracket" or self.is_closed(tag)):
                self.open_thought(tag)
        elif kind in ("channel", "message_end"):
            self.read_channel(tag)
        elif self.thought is not None:
            return
        elif kind == "comment":
            self.skip_comment(tag.start())
        elif kind == "tool":
            if not closes:
                self.tool = tag
            elif self.tool is not None:
                self.close_tool(*tag.span())
        elif self.tool is None:
            if closes:
                self.close_answer(*tag.span())
            else:
                self.opened = tag

    def is_closed(self, tag: re.Match[str]) -> bool:
        """Return whether a thought in brackets is closed; if not, only `[THINK]` is more than a heading."""
        name = tag["bracket"].lower()
        if name == "think" or not tag[0].startswith("["):
            return True
        if name not in self.closings:
            closings = re.finditer(rf"\[\s?/\s?{name}\s?\]", self.text, re.IGNORECASE)
            self.closings[name] = max((closing.start() for closing in closings), default=-1)
        return self.closings[name] > tag.start()

    def skip_comment(self, start: int) -> None:
        """Skip the comment that begins at `start`, if it is closed."""
        if self.tool is not None or not self.comments:
            return
        end = self.text.find("-->", start)
        self.comments = end >= 0
        if self.comments:
            self.comment_end = end + 3
            self.holes.append((start, self.comment_end, "\n"))

    def open_thought(self, tag: re.Match[str]) -> None:
        """Begin a thought: tags that are open before it stay incomplete."""
        self.thought, self.opened, self.tool = tag, None, None

    def close_thought(self, end: int) -> None:
        """End the open thought; if there is none, all that came before was one."""
        if self.thought is None:
            self.marks.clear()
        self.thought, self.opened, self.tool, self.since = None, None, None, end

    def read_channel(self, tag: re.Match[str]) -> None:
        """Read the begin or end of a message in a channel: all but the channel `final` hold thoughts."""
        if self.thought is not None and not self.thought["channel"]:
            return
        if self.thought is not None:
            self.close_thought(tag.end())
        elif self.opened is not None:
            self.close_answer(*tag.span())
        if tag["channel"]:
            if tag["channel"].lower() == "final":
                self.opened = tag
            else:
                self.open_thought(tag)

    def close_answer(self, start: int, end: int) -> None:
        """End the open answer, or the one whose opening tag may stand in the prompt."""
        opened, self.opened = self.opened, None
        if opened is None and self.marks:
            return
        before, content = opened.span() if opened else (self.since, self.since)
        if not _CONTENT.search(self.text, content, start):
            self.since = end
        elif self.marks and _JOINED.fullmatch(self.text, self.marks[-1].after, before):
            self.holes += [(self.marks[-1].end, self.marks[-1].after, " "), (before, content, " ")]
            self.marks[-1] = _Mark(self.marks[-1].start, start, end)
        else:
            self.marks.append(_Mark(content, start, end))

    def close_tool(self, start: int, end: int) -> None:
        """End the open call of a tool: it is an answer, or else a hole in the text."""
        assert self.tool is not None
        tool, self.tool = self.tool, None
        name = _TOOL_NAME.search(self.text, tool.end(), min(start, tool.end() + 200))
        if name and _ANSWER_TOOL.fullmatch(re.sub(r"[\W_]", "", name[1]).lower()) and "call" in tool["tool"].lower():
            self.opened = tool
            self.close_answer(start, end)
        else:
            self.holes.append((tool.start(), end, "\n"))

    def region(self) -> tuple[int, int, bool]:
        """Return start and end of the final answer once all tags are read, and whether tags hold it."""
        if self.tool is not None:
            self.close_tool(self.end, self.end)
        if self.opened is not None and _CONTENT.search(self.text, self.opened.end(), self.end):
            self.close_answer(self.end, self.end)
        if self.marks:
            return self.marks[-1].start, self.marks[-1].end, True
        if self.thought or self.opened:  # both are cut off before they say anything
            return self.end, self.end, False
        return self.since, self.end, False


def _closing_tag(thought: re.Match[str]) -> str:
    """Return the tag that closes a thought, given the tag that opened it."""
    if thought["thought"]:
        return f"</{thought['thought']}>"
    if thought["bracket"]:
        return f"[/{thought['bracket']}]" if thought[0].startswith("[") else "\u25c1/think\u25b7"
    if thought["bar"]:
        return f"<|/{thought['bar']}|>"
    return "<|end|>" if thought["channel"] else f"<|end_of_{thought['long_thought']}|>"


def _end_of_turn(text: str) -> int:
    """Return where the model's turn ends: what follows, and marks of the end of a text, are no part of it."""
    end = len(text)
    for token in _TURN_END.finditer(text):
        if not _mentioned(text, *token.span()) and _CONTENT.search(text, 0, token.start()):
            end = token.start()
            break
    said = len(text[:end].rstrip())
    if not text[max(0, said - 10) : said].casefold().endswith(_LAST):
        return said
    return next((last.start() for last in _LAST_TOKENS.finditer(text, 0, end) if last.end() == end), end)


def _mentioned(text: str, start: int, end: int) -> bool:
    """Return whether `text[start:end]` stands alone in quotes or backticks."""
    return start > 0 and end < len(text) and text[start - 1] in _QUOTES and text[end] in _QUOTES


def _boxed(text: str) -> tuple[int, int] | None:
    """Return where the content of the last box begins and ends, or its lines if it is not alone; None without a box."""
    if "\\" not in text or "box" not in text.lower():
        return None
    end = len(text)
    boxes: list[tuple[int, int, int]] = []  # start of the box, start and end of what it holds
    since = None
    closing: dict[int, int] | None = None
    for box in _BOX.finditer(text):
        if closing is None:
            closing = _closing_braces(text)
        close = closing.get(box.end() - 1, end)
        if _CONTENT.search(text, box.end(), close):
            boxes.append((box.start(), box.end(), close))
        else:
            since = min(close + 1, end)
    if not boxes:
        return None if since is None else (since, end)
    first = last = boxes.pop()
    while boxes and boxes[-1][2] < first[0] and text.count("\n", boxes[-1][2], first[0]) <= 1:
        first = boxes.pop()
    after = min(last[2] + 1, end)
    if first == last and not _is_qualified(text, last[0], after):
        return last[1], last[2]
    line_end = text.find("\n", after)
    return text.rfind("\n", 0, first[0]) + 1, end if line_end < 0 else line_end


def _is_qualified(text: str, start: int, end: int) -> bool:
    """Return whether words or signs in the sentence of the box `text[start:end]` qualify what it holds."""
    before, behind = text[max(0, start - _NEAR) : start], text[end : end + _NEAR]
    if _BEFORE_BOX.search(before) or _AFTER_BOX.match(text, end):
        return True
    said = _SENTENCE_END.split(before)[-1], _SENTENCE_END.split(behind, maxsplit=1)[0]
    return any(_HEDGE.search(words) for words in said)


def _closing_braces(text: str) -> dict[int, int]:
    """Return the position of the closing brace of each opening one; escaped braces do not count."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            closing[opened.pop()] = brace.start()
    return closing


def _blanked(text: str, start: int, end: int, holes: list[tuple[int, int, str]]) -> str:
    """Return `text[start:end]` with white space in place of each hole."""
    pieces = []
    for hole_start, hole_end, white in sorted(holes):
        if start <= hole_start and hole_end <= end:
            pieces += [text[start:hole_start], white + " " * (hole_end - hole_start - 1)]
            start = hole_end
    return "".join((*pieces, text[start:end]))
