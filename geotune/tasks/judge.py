"""The task of judging whether a given answer is right: true or false (GRE's judge, arXiv 2505.18700).

The question shows a photo together with somebody's reasoning and answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geotune.sample import IMAGE_TAG
from geotune.tasks.base import GoldError
from geotune.tasks.choice import ChoiceTask, yes_or_no


@dataclass(frozen=True)
class JudgeTask(ChoiceTask):
    """Asks whether a predicted place is right. The prediction is part of the prompt."""

    def question(self) -> str:
        return "Is this answer correct about where the photo was taken?"

    def form(self) -> str:
        return f'{{"{self.key}": ...}}, true or false.'

    def prompt(self, *, explain: bool, reasoning: str = "", predicted: str = "") -> str:
        """Return the user's text, with the reasoning (if any) and the predicted answer between image and question.

        Image marks inside them are reworded, because a prompt must hold as many marks as it has images.
        """
        parts = [("Reasoning", reasoning), ("Answer", predicted)]
        lines = [f"{title}: {_clean(text)}\n" for title, text in parts if _clean(text)]
        mark, question = f"{IMAGE_TAG}\n" * self.n_images, super().prompt(explain=explain)
        return mark + "".join(lines) + question.removeprefix(mark)

    def prompt_for(self, record: Mapping[str, Any], *, explain: bool) -> str:
        """Return the user's text for a record with `predicted_cot` and `predicted_answer`."""
        reasoning, predicted = (str(record.get(key) or "") for key in ("predicted_cot", "predicted_answer"))
        return self.prompt(explain=explain, reasoning=reasoning, predicted=predicted)

    def gold(self, record: Mapping[str, Any], *, crop: str = "full") -> str:
        """Return the verdict, "true" or "false", of the record's last `gpt` turn; raises `GoldError` if it has none."""
        turns = record.get("conversations")
        replies = [
            str(turn.get("value"))
            for turn in (turns if isinstance(turns, list) else [])
            if isinstance(turn, Mapping) and turn.get("from") == "gpt"
        ]
        if not replies:
            raise GoldError("missing verdict")
        verdict = self.parse(replies[-1])
        if verdict.answer is None:
            raise GoldError(f"verdict {verdict.reason}", replies[-1][:80])
        return verdict.answer


def _clean(text: str) -> str:
    return text.replace(IMAGE_TAG, "[image]").strip()


JUDGE = JudgeTask(
    "judge",
    ("is_correct",),
    ("true", "false"),
    1 / 2,
    wording=yes_or_no(
        true=r"|correct|accurate|(?:(?<=is )|(?<=are )|(?<=not ))right(?! (?:side|of|hand|edge))|(?<=i )agree",
        false="|incorrect|wrong|inaccurate|(?<=i )disagree",
        exact={"right": "true"},
        fillers="""
            is_correct predicted response location place coordinates are verdict judgment judgement estimate guess given
            assessment
        """,
        starts="c i w a r d",
    ),
    aliases=("correct", "verdict", "judgment", "judgement"),
)
