"""Choices in plain words: what asserts an answer, and that doubts, denials and mentions in passing are refused."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks import CROSS_VIEW_TASKS, TASKS, Parsed, Reason, qualifiers
from geotune.tasks.choice import ChoiceTask
from geotune.tasks.qualifiers import Marks, mark_words

POSE, RANGE, PLACE, MAP, JUDGE = "pose_fixed", "localization_prior", "intra_map", "cross_map", "judge"
ONE_OF_EACH = (POSE, RANGE, PLACE, MAP)

ASSERTED = [
    (POSE, "N", "\\boxed{\\text{North}}"),
    (POSE, "N", "The direction is $\\boxed{N}$."),
    (POSE, "N", "Most likely N, less likely S."),
    (POSE, "N", "1. N (60%)\n2. S (30%)\n3. E (10%)"),
    (POSE, "N", "1. North\n2. South"),
    (POSE, "N", "Bearing 0° (due north)"),
    (POSE, "N", "360 degrees"),
    (POSE, "N", "The camera faces north, with the sun in the south."),
    (POSE, "N", "The answer is north because the shop in the south is bright."),
    (POSE, "N", "N\n\nExplanation: the river lies to the south."),
    (POSE, "N", "It could be N or S. The shadows are short. So the answer is N."),
    (POSE, "N", "Is it south? No. The camera faces north."),
    (POSE, "N", "Direction : Nord"),
    (POSE, "N", "The camera's direction is north"),
    (POSE, "N", "Based on the shadows, I conclude the camera faces north."),
    (POSE, "N", '{"direction": "北"}'),
    (POSE, "E", "heading: 90 degrees"),
    (POSE, "E", '{"heading": "E"}'),
    (POSE, "E", '{"direction": 90}'),
    (POSE, "E", "| direction |\n|---|\n| E |"),
    (POSE, "E", "| direction | confidence |\n|---|---|\n| E | high |"),
    (POSE, "W", "Final answer: facing West (270°)"),
    (PLACE, "top_left", "左上"),
    (PLACE, "top_left", "oben links"),
    (PLACE, "top_left", "en haut à gauche"),
    (PLACE, "bottom_right", "abajo a la derecha"),
    (PLACE, "top_left", "top\\_left"),
    (PLACE, "top_left", '{"position": "top left"}'),
    (MAP, "1", "The second map (index 1) matches."),
    (MAP, "1", '{"index": 1}'),
    (MAP, "1", "Map 1 matches, map 3 does not."),
    (MAP, "1", "aerial image 1"),
    (MAP, "3", "matched_aerial_index: 3 (the fourth map)"),
    (MAP, "3", "Neither 0 nor 1 fits; so it is 3."),
    (MAP, "3", "The first image is the photo; map 3 matches it."),
    (RANGE, "true", "是"),
    (RANGE, "true", "The photo was taken in this map."),
    (RANGE, "true", "The photo was taken within the map area."),
    (RANGE, "true", "not out of range"),
    (RANGE, "true", '{"in_range": true}'),
    (RANGE, "true", "Yes: the roads match."),
    (RANGE, "false", "The photo was not taken in this map."),
    (RANGE, "false", "It was taken outside the map."),
    (RANGE, "false", '{"is_in_range": "out of range"}'),
    (RANGE, "false", "Nein"),
    (JUDGE, "false", "The prediction is wrong."),
    (JUDGE, "true", "The predicted location is correct."),
    (JUDGE, "true", '{"verdict": "correct"}'),
    (JUDGE, "true", "Verdict: correct"),
    (JUDGE, "true", "Is correct: Yes"),
    (JUDGE, "true", "The prediction is right."),
    (JUDGE, "true", "The coordinates are accurate."),
    (JUDGE, "false", "I disagree with the answer."),
    (JUDGE, "false", "Final verdict: incorrect"),
    (JUDGE, "false", "\u274c Incorrect"),
    (RANGE, "true", "The camera is in range."),
    (RANGE, "true", "The photo appears to have been taken in this map."),
    (RANGE, "true", "True or false: true"),
    (RANGE, "false", "is in range = false"),
    (RANGE, "false", "Not in this map."),
    (RANGE, "false", "The photo was taken elsewhere."),
    (RANGE, "false", "False: there is no river."),
    (MAP, "2", "Map 2 is the best match for the photo."),
    (MAP, "2", "The camera is at the center of map 2."),
    (MAP, "2", "Map 2 fits better than map 1. The answer is 2."),
    (MAP, "2", "Out of the 4 maps, map 2 has the same layout."),
    (MAP, "2", "Image 2 (map 1) shows a field.\n\nTherefore, the best match is map 2."),
    (PLACE, "top_left", "The camera is in the top left, near the church on the right."),
    (PLACE, "top_left", "The church in the photo is on the right. The camera is in the top left."),
    (POSE, "W", "The camera is facing west toward the river."),
    (POSE, "W", "The camera faces west down Main Street."),
    (POSE, "W", "Direction faced: West"),
    (POSE, "W", "The answer would be W."),
    (POSE, "W", "I would say west."),
    (POSE, "W", "I'd go with west."),
    (POSE, "W", "At first I thought it was facing east.\n\nTherefore, the camera is facing west."),
    (POSE, "W", "It faces east. In conclusion, it faces west."),
    (POSE, "W", '{"direction": "N"} would put the church on the left. So the answer is W.'),
    (POSE, "N", "The camera faces north. However, the church is to the south."),
    (POSE, "N", "> N"),
    (POSE, "N", "-> N"),
    (POSE, "N", "I don't know the street, but the camera faces north."),
]


@pytest.mark.parametrize(("name", "answer", "text"), ASSERTED)
def test_what_asserts_an_answer(name: str, answer: str, text: str) -> None:
    assert TASKS[name].parse(text) == Parsed(answer, None)


REFUSED = {
    (MAP, Reason.ILLEGAL): ["image 3", '{"matched_aerial_index": "image 3"}', "map 10"],  # the photo may be counted
    (MAP, Reason.CONTRADICTION): [
        *("the second map (index 2)", "2 of 4", "0-3", "2, 0.9", '{"matched_aerial_index": 1}, 2'),
        "Map 1 matches, map 2 matches too",
    ],
    (MAP, Reason.NO_ANSWER): [
        *("the second map", "2 is wrong", "3?", "1. The road matches", "2 of them", "Option B", "none of them"),
        *(
            '{"0": 0.1, "1": 0.9}',
            "0: 10%, 1: 90%",
            "map 2 does not match",
            "I see 2 cars.",
            "2 maps match",
            "0 matching maps",
            "at most 2",
            "\u22601",
            "!= 1",
            "<2",
            "None (0)",
            "The maps 0, 1 and 3 do not match.",
            "1: yes, 2: yes",
        ),
    ],
    (POSE, Reason.ILLEGAL): [
        *(f'{{"direction": "{said}"}}' for said in ("north-ish", "N?", "not sure, N", "N (not sure)", "N45E", "45")),
        *(f'{{"direction": "{said}"}}' for said in ("West Street", "north of the church", "95°", "-90", "450")),
        "heading 91 degrees",
        *(f'{{"direction": "{said}"}}' for said in ("N/A - unclear", "~N", "not (N)", "N (wrong)", "N\u274c")),
    ],
    (POSE, Reason.NO_ANSWER): [
        *("Maybe N", "N?", "The camera does not face north.", "I don't think it faces north.", "anything but north"),
        *("The camera faces opposite to north.", "The camera faces north of the church.", "N is less likely"),
        *("north. Actually no.", "The sun direction is south.", "The photo shows a house facing south.", "N = 0.6"),
        *('{"not_direction": "N"}', '{"N": 0.6, "S": 0.4}', "direction: North Carolina", "It would be north."),
        *("~N", "\u00acN", "!N", "-N", "~~N~~", "\u274c N", "not (N)", "N (not)", "N, not", "N (unlikely)", "N (10%)"),
        *("N/A", "Direction: N/A", "e.g. N", "from the north", "N. I don't know.", "I rule out \\boxed{N}"),
        *('not {"direction": "N"}', '{"direction": "N"} is wrong', '{"direction": "N"} or S', "maybe \\boxed{N}"),
        *("1. N (30%)\n2. S (60%)", "1. The road runs north\n2. The camera is in a car", "N: 60%, S: 40%", "north 30"),
    ],
    (POSE, Reason.CONTRADICTION): [
        *("N vs. S", "N. However, S fits better.", "N. Rather S.", "N. Better: S", "N. I'd rather say S", "N, then E"),
        *("N, although S is equally likely", "N. S is just as likely.", "N with 50% and S with 50%", "N but S"),
        *(f'{{"direction": "N"}}{joint} {{"direction": "S"}}' for joint in (",", " and", " /", " vs", " vs.", ";")),
        *(
            f'<answer>{{"direction": "N"}}</answer> {joint} <answer>{{"direction": "S"}}</answer>'
            for joint in ("or", "and", ",", "vs.")
        ),
        *('{"direction": "N"} / S', '{"direction": "N"}, south', "\\boxed{N} maybe S"),
        *("N, or maybe S", "N (S is also possible)", "N but could be S", "N; it is S", "\\boxed{N} or \\boxed{S}"),
        *('{"direction": "N"} or {"direction": "S"}', "<answer>N</answer> or <answer>S</answer>", "N - 60%\nS - 40%"),
    ],
    (PLACE, Reason.CONTRADICTION): ['{"location": "center (slightly left)"}', "left of center"],
    (PLACE, Reason.NO_ANSWER): ["left of the church", "It is on the left side of the street", "That is right."],
    (RANGE, Reason.NO_ANSWER): [
        *("No idea.", "No map is given", "Yes?", '{"is_not_in_range": true}', "是不是", "60% yes", "Yes: 0.6, No: 0.4"),
        *(
            "Yes, I can help with that.",
            "No, I don't know.",
            "No, I can't tell.",
            "Yes (10%)",
            "Yes, with 30% confidence",
        ),
        *("The photo could have been taken in this map.", "I would not say yes", "No doubt: it is in the map"),
    ],
    (JUDGE, Reason.NO_ANSWER): ["partially correct", "correct country", "The correct answer is Paris"],
}


@pytest.mark.parametrize(
    ("name", "reason", "text"), [(name, reason, text) for (name, reason), texts in REFUSED.items() for text in texts]
)
def test_what_is_refused(name: str, reason: Reason, text: str) -> None:
    assert TASKS[name].parse(text) == Parsed(None, reason)


# Each doubt or denial, around the words of an option, says that the option is not the answer, or not surely.
DOUBTS = ["maybe {}", "{} or {}", "either {}", "not {}", "it could be {}", "unlikely {}", "{}?", "anything but {}"]
DOUBTS += ["if it is {}", "opposite of {}", "{} (not sure)", "{}, or perhaps not", "{} is wrong", "less likely {}"]
DOUBTS += ["I don't think it is {}", "{} of the church", "{} Street", "{}-ish", "{} 0.7", "{}. Actually, no", "near {}"]
DOUBTS += ["{} (wrong)", "not ({})", "~{}", "\u274c {}", "{}, not", "{}. Rather {}", "{}. {} fits better", "{} vs. {}"]
DOUBTS += [
    "{}, although {} is equally likely",
    "{} with 50% and {} with 50%",
    "{} but {}",
    "{}. I don't know",
    "e.g. {}",
]
FRAMES = [
    "{}",
    "The answer is: {}",
    "{{{}}}",
    "| answer |\n|---|\n| {} |",
    "Final answer: {}\n",
    "**{}**",
    "\\boxed{{{}}}",
]


@settings(deadline=None, max_examples=400)
@given(st.data(), st.sampled_from((POSE, PLACE, MAP)), st.sampled_from(DOUBTS), st.sampled_from(FRAMES), st.booleans())
def test_doubts_and_denials_are_refused(data: st.DataObject, name: str, doubt: str, frame: str, as_value: bool) -> None:
    task = TASKS[name]
    words = [option.replace("_", " ") for option in data.draw(st.permutations(task.options))[:2]]
    said = doubt.format(*words)
    text = f'{{"{task.key}": "{said}"}}' if as_value else frame.format(said)
    assert task.parse(text).answer is None, text


CERTAIN = [
    "{}",
    "It is {}",
    "I think it is {}.",
    "definitely {}",
    "{}!",
    "It is {}, because the roads match",
    "{} (80%)",
]


@settings(deadline=None, max_examples=300)
@given(st.data(), st.sampled_from((POSE, PLACE, MAP)), st.sampled_from(CERTAIN), st.sampled_from(FRAMES), st.booleans())
def test_assertions_are_read(data: st.DataObject, name: str, words: str, frame: str, as_value: bool) -> None:
    task = TASKS[name]
    option = data.draw(st.sampled_from(task.options))
    said = words.format(option.replace("_", " "))
    text = f'{{"{task.key}": "{said}"}}' if as_value else frame.format(said)
    assert task.parse(text).answer == option, text


PASSING = "the camera roof tree is red of map so answer it faces church was taken ( ) . , : \n | - because direction"


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(CROSS_VIEW_TASKS), st.lists(st.sampled_from(PASSING.split(" "))).map(" ".join))
def test_words_that_name_no_option_are_no_answer(name: str, text: str) -> None:
    assert TASKS[name].parse(text).answer is None


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize(
    "piece",
    [
        "N ",
        "1. N\n",
        "(N",
        "N : ",
        "N (S) ",
        "N\u2014",
        "N, ",
        "N 5% ",
        "not (",
        "not ",
        "no ",
        "it is ",
        "1. (((",
        "top-",
        "if ",
        "2 ",
    ],
)
def test_long_texts_take_little_time(name: str, piece: str) -> None:
    task = TASKS[name]
    assert isinstance(task, ChoiceTask)
    began = time.process_time()
    task.parse(piece * (100_000 // len(piece)) + "1")
    task.wording.value(piece * (100_000 // len(piece)) + "1")
    assert time.process_time() - began < 5


QUALIFIERS = {name: found for name, found in vars(qualifiers).items() if isinstance(found, Marks)}
CUES = {name: task.wording.cue for name, task in TASKS.items() if isinstance(task, ChoiceTask)}
MARK_WORDS = sorted({word for marks in (QUALIFIERS | CUES).values() for word in marks.words})
SIGNS = (
    "\u017fo",
    "\u0130f",
    "\u0131f",
    "_",
    "'s",
    "\u2019t",
    "because",
    "since",
    " - ",
    " -- ",
    "ed",
    "right",
    "\u00df",
)
NEAR = (
    "is",
    "the",
    "but",
    "n't",
    "north",
    "90\u00ba",
    "map 2",
    "fac",
    "\u017fo",
    "\u0130f",
    "\u0131f",
    "_",
    "'s",
    "\u2019t",
)


ANSWER_WORDS = """
    not never isn't North EAST s W 90\u00b0 heading: Bearing azimuth 0 +1 -2.5 map Satellite first 1st TRUE yes no nope
    yeah false in out photo picture it camera was taken the range Correct incorrect wrong top \u017fouth Upper left
    bottom lower RIGHT centre middle image 3 option candidate is of \u017fecond area within
"""


@given(
    st.lists(
        st.tuples(
            st.sampled_from((*MARK_WORDS, *NEAR)),
            st.booleans(),
            st.sampled_from((" ", "", ", ", "-", "_", "\u0301", "7")),
        ),
        max_size=8,
    )
)
@settings(max_examples=300)
def test_marks_are_found_by_their_words(pieces: list[tuple[str, bool, str]]) -> None:
    text = "".join((word.upper() if upper else word) + after for word, upper, after in pieces)
    for name, marks in (QUALIFIERS | CUES).items():
        assert marks.within(text, mark_words(text, marks.words)) == bool(marks.pattern.search(text)), name
    assert qualifiers.clauses(text, mark_words(text)) == qualifiers._CLAUSE_END.split(text)


@given(st.lists(st.sampled_from(ANSWER_WORDS.split()), max_size=8))
@settings(max_examples=300)
def test_the_first_characters_of_a_pattern_are_those_of_its_matches(words: list[str]) -> None:
    text = " ".join(words)
    for name in TASKS:
        task = TASKS[name]
        if isinstance(task, ChoiceTask):
            pattern = task.wording.pattern.pattern
            start, rest = pattern.split(")", 1)
            assert start.startswith("(?=["), name
            matches = [found.span() for found in re.finditer(rest, text)]
            assert [found.span() for found in task.wording.pattern.finditer(text)] == matches, name
