"""The seven cross-view tasks: prompts, gold answers, and what their parsers accept and reject."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks import CROSS_VIEW_TASKS, TASKS, GoldError, Parsed, Reason
from geotune.tasks.choice import ChoiceTask
from geotune.tasks.cross_view import LOCATIONS
from geotune.tasks.final_answer import find_answer

POSE, RANGE, PLACE, MAP = "pose_fixed", "localization_prior", "intra_map", "cross_map"
ONE_OF_EACH = (POSE, RANGE, PLACE, MAP)
TASK_NAMES = st.sampled_from(CROSS_VIEW_TASKS)
# What a model may write around its JSON. Tags, brackets after it and what joins it to another answer could rightly
# change the answer.
JOINTS = " ,;/|&?"
FRAGMENTS = '{"direction": {"location": "S" "top" { } [ ] , : " \' \\ ``` x {"matched_aerial_index": 1 so'
PIECES_BEFORE = st.lists(st.sampled_from(FRAGMENTS.split()))
BEFORE = st.text().map(lambda text: text.replace("<", "")) | PIECES_BEFORE.map(" ".join) | PIECES_BEFORE.map("".join)
AFTER = st.text().map(lambda text: "".join(c for c in text if c not in "{}[]<").lstrip(" \t?`\"'*)").lstrip(JOINTS))


def index_record(**ground: Any) -> dict[str, Any]:
    """A record of Orin4_SameLocation, in the published shape."""
    return {
        "image_id": "1_90",
        "source": "test",
        "GroundImage": {
            "file_path": "streetview/-27.5,153.1_2022-12_x_d167_z3E.jpg",
            "fov": 90,
            "capture_time": None,
            "real_location": "-27.50000305,153.10024686",
            "orientation": "E",
            "degree": 90.0,
            **ground,
        },
        "AerialImage": {"file_path": "satellite/a.jpg", "zoom_level": 18, "centered": True},
    }


def selection_record(originals: tuple[int, ...] = (2,), paths: str = "abcd") -> dict[str, Any]:
    """A record of LocationSelection."""
    record = index_record(in_range=False)
    del record["AerialImage"]
    record["AerialCandidates"] = [
        {"AerialImage": {"file_path": f"satellite/{path}.jpg", "zoom_level": 18}, "is_original": index in originals}
        for index, path in enumerate(paths)
    ]
    return record


def read(name: str, text: str) -> str | None:
    return TASKS[name].parse(text).answer


# Prompts


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("name", CROSS_VIEW_TASKS)
def test_prompt_shows_images_first_and_states_the_legal_answers(name: str, explain: bool) -> None:
    task = TASKS[name]
    prompt = task.prompt(explain=explain)
    marks = "<image>\n" * (1 + task.n_maps)
    assert prompt.startswith(marks)
    assert prompt.count("<image>") == 1 + task.n_maps
    assert f'"{task.key}"' in prompt
    assert all(option in prompt for option in task.options)
    assert len(task.question().split()) <= 35
    assert task.chance == pytest.approx(1 / len(task.options))
    assert ("explain" in prompt) is explain


def test_variants_differ_in_where_the_camera_is() -> None:
    prompts = {name: TASKS[name].prompt(explain=False) for name in CROSS_VIEW_TASKS}
    assert len(set(prompts.values())) == 7
    for name, prompt in prompts.items():
        assert ("anywhere" in prompt) is TASKS[name].cropped
        assert ("at the center of" in prompt) is not TASKS[name].cropped


@pytest.mark.parametrize("name", CROSS_VIEW_TASKS)
def test_an_echoed_prompt_is_no_answer(name: str) -> None:
    for explain in (False, True):
        assert read(name, TASKS[name].prompt(explain=explain)) is None


# Gold answers


def test_gold_from_index_records() -> None:
    record = index_record(in_range=True)
    assert TASKS[POSE].gold(record) == TASKS["pose_random"].gold(record, crop="left") == "E"
    assert TASKS[RANGE].gold(record) == "true"
    assert TASKS["localization_no_prior"].gold(index_record(in_range=False), crop="top") == "false"
    assert [TASKS[PLACE].gold(record, crop=crop) for crop in LOCATIONS] == list(LOCATIONS)
    assert TASKS[MAP].gold(selection_record()) == TASKS["cross_map_random"].gold(selection_record(), crop="top") == "2"
    assert TASKS[POSE].gold(index_record(degree=90)) == "E"  # an int in VIGOR


@pytest.mark.parametrize(
    ("name", "record", "reason"),
    [
        (POSE, {}, "missing GroundImage.orientation"),
        (POSE, index_record(orientation="NE", degree=45.0), "illegal orientation"),
        (POSE, index_record(degree=180.0), "orientation and degree disagree"),
        (RANGE, index_record(), "missing GroundImage.in_range"),
        (RANGE, index_record(in_range="true"), "illegal in_range"),
        (RANGE, selection_record(), "stale in_range"),
        (PLACE, index_record(), "not one of the nine crops"),
        (MAP, index_record(), "missing AerialCandidates"),
        (MAP, selection_record(paths="abc"), "not four candidates"),
        (MAP, selection_record(originals=()), "not one original"),
        (MAP, selection_record(originals=(0, 1)), "not one original"),
        (MAP, selection_record(paths="abcc"), "original listed twice"),
        (MAP, {"AerialCandidates": [1, 2, 3, 4]}, "missing AerialImage.file_path"),
    ],
)
def test_records_without_a_gold_answer(name: str, record: dict[str, Any], reason: str) -> None:
    with pytest.raises(GoldError) as error:
        TASKS[name].gold(record)
    assert error.value.reason == reason


def test_a_distractor_listed_twice_leaves_the_answer_clear() -> None:
    assert TASKS[MAP].gold(selection_record(paths="aacd")) == "2"


# Reading answers


ACCEPTED = {
    POSE: {
        "N": "N,n,north,North,NORTH,**N**,northward,Northwards,northern,northbound,facing north,due north,'N'",
        "E": "The camera faces East.|It is facing east.|direction: east|heading = E|So the answer is E.|East-facing",
        "S": "I first thought north. Final answer: south|Not north but south.|Answer:\nSouth|<answer>S</answer>",
        "W": "The photo looks towards the west.|Therefore it faces west, where the church stands.",
    },
    PLACE: {
        "top_left": "top left|top-left|Top_Left|topleft|upper-left|upper left corner|left top|the top left part",
        "bottom_right": "lower right|It is in the bottom right part of the map.",
        "center": "center|centre|middle|the central part",
        "left": "left|center left|middle-left|leftmost",
        "top": "top|upper|top center|upper middle",
    },
    MAP: {
        "2": "2|2.|#2|map 2|Map 2.|map_2|map-2|index 2|map two|I think it is map 2|The photo matches map 2.|2.0|02|+2",
        "0": "0|map zero|The answer is 0.",
    },
    RANGE: {
        "true": "true|True|TRUE.|yes|Yes, it was.|Yes! The roads match.|is_in_range: true|not false",
        "false": "false|no|No.|No, the roads do not match.|not true|The answer is no.",
    },
}


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        (name, text, answer)
        for name, answers in ACCEPTED.items()
        for answer, texts in answers.items()
        for text in texts.split("|" if "|" in texts else ",")
    ],
)
def test_words_that_a_reader_understands(name: str, text: str, answer: str) -> None:
    assert read(name, text) == answer
    if "answer" not in text.lower() and "\n" not in text:
        key = TASKS[name].key
        quoted = text.replace("'", "")
        assert read(name, f'{{"{key}": "{quoted}"}}') == answer
        assert read(name, f"{{'{key}': '{quoted}'}}") == answer


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_forms_of_json(name: str) -> None:
    task = TASKS[name]
    for option in task.options:
        literal = task.target(option).split(": ")[1][:-1]
        bare = literal.strip('"')
        for text in (
            f'{{"{task.key}": {literal}}}',
            f'{{"{task.key}": "{bare}"}}',
            f"{{'{task.key}': '{bare}'}}",
            f"{{{task.key}: {bare}}}",
            f'{{"{task.key}": {literal},}}',
            f'{{"{task.key}": [{literal}]}}',
            f'{{"{task.key.upper()}": {literal}}}',
            f'{{"{task.key.replace("_", "")}": {literal}}}',
            f'```json\n{{"{task.key}": {literal}}}\n```',
            f'```json\n{{\n  "{task.key}": {literal}\n}}\n``` I am sure.',
            f'<think>north, 3, no, left</think><answer>{{"{task.key}": {literal}}}</answer>',
            f"<answer>{bare}</answer>",
            f'{{"answer": {literal}}}',
            f'{{"answer": {{"{task.key}": {literal}}}}}',
            f"{{\u201c{task.key}\u201d: \u201c{bare}\u201d}}",
            f'{{"{task.key}": "{bare}"',
            f'{{"{task.key}": {literal}, "why": "it\'s "good", I say"}}',
            f'{{"why": "not {{3}}, not left, {{no}}", "{task.key}": {literal}}}',
            f'{{"{task.key}": {literal}, "{task.key}": {literal}}}',
            bare,
        ):
            assert task.parse(text) == Parsed(option, None), text


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_last_json_wins_over_drafts_and_loose_words(name: str) -> None:
    task = TASKS[name]
    first, last = task.options[0], task.options[-1]
    draft = "north red blue, east green, left 3 trees, top 1 road, yes and no: "
    for text in (
        draft + task.target(last),
        f"{task.target(first)} No, wait.\n{task.target(last)}",
        f"{task.target(last)} although the answer is {first}",
        f'{{"{task.key}": "nonsense"}} {task.target(last)}',
        f'{task.target(last)}\n{{"{task.key}',
        f'{task.target(last)}\n{{"{task.key}": ',
        f"<think>{task.target(first)}</think>{task.target(last)}",
        f"<answer>{first}</answer> <answer>{task.target(last)}</answer>",
        f"<answer>{task.target(last)}</answer> {task.target(first)}",
    ):
        assert task.parse(text).answer == last, text


REFUSED = [
    *((name, text, Reason.EMPTY) for name in ONE_OF_EACH for text in ("", " \n\t")),
    *((name, "I do not know.", Reason.NO_ANSWER) for name in ONE_OF_EACH),
    *((name, "<think>N 2 true top", Reason.NO_ANSWER) for name in ONE_OF_EACH),
    *(
        (name, f'{{"{TASKS[name].key}": {value}}}', Reason.NO_ANSWER)
        for name in ONE_OF_EACH
        for value in ('""', "null", "None", '"unknown"', '"N/A"', '"..."')
    ),
    *(
        (name, f'{{"{TASKS[name].key}": {value}}}', Reason.ILLEGAL)
        for name in ONE_OF_EACH
        for value in ('"x"', "{}", "[]")
    ),
    *((name, f'{{"{TASKS[name].key}": ', Reason.TRUNCATED) for name in ONE_OF_EACH),
    *((POSE, text, Reason.ILLEGAL) for text in ("NE", "N.E.", "northeast", "North-East", '{"direction": "ne"}', "SSW")),
    (POSE, '{"direction": "N", "direction": "S"}', Reason.CONTRADICTION),
    (POSE, '{"direction": "N", "Direction": "S"}', Reason.CONTRADICTION),
    (POSE, '{"direction": "N or S"}', Reason.CONTRADICTION),
    (POSE, '{"direction": "N" or "S"}', Reason.CONTRADICTION),
    (POSE, '{"direction": N, S}', Reason.CONTRADICTION),
    (POSE, '{"direction": ["N", "S"]}', Reason.CONTRADICTION),
    (POSE, '[{"direction": "N"}, {"direction": "S"}]', Reason.CONTRADICTION),
    (POSE, '{"direction": "<N, E, S or W>"}', Reason.CONTRADICTION),
    (POSE, "N or S", Reason.CONTRADICTION),
    (POSE, "north and east", Reason.CONTRADICTION),
    (POSE, "It faces north. It faces south.", Reason.CONTRADICTION),
    (POSE, "north red blue, east green", Reason.NO_ANSWER),
    (POSE, "If the camera faces north, the church is ahead.", Reason.NO_ANSWER),
    (POSE, "not north", Reason.NO_ANSWER),
    (POSE, "I cannot tell whether it faces north.", Reason.NO_ANSWER),
    (POSE, "in the U.S.", Reason.NO_ANSWER),
    (POSE, '{"direction": "N', Reason.TRUNCATED),
    (PLACE, '{"location": "top', Reason.TRUNCATED),
    (PLACE, "top bottom", Reason.ILLEGAL),
    (PLACE, "top, left", Reason.CONTRADICTION),
    (PLACE, '{"location": "north"}', Reason.ILLEGAL),
    (PLACE, '{"location": "top", "location": "left"}', Reason.CONTRADICTION),
    *((MAP, text, Reason.ILLEGAL) for text in ("7", "-1", "1.5", "map 4", "map -1", "12", "9" * 6000)),
    *(
        (MAP, f'{{"matched_aerial_index": {value}}}', Reason.ILLEGAL)
        for value in ("7", '"7"', "1.5", "-1", "1e0", "true", "NaN", ".2", "20%", "9" * 6000)
    ),
    *((MAP, text, Reason.CONTRADICTION) for text in ("1 or 2", "2,3", "1-2", "2/3", "maps 0 and 3")),
    (RANGE, "true or false", Reason.CONTRADICTION),
    (RANGE, '{"is_in_range": "True/False"}', Reason.CONTRADICTION),
    (RANGE, '{"is_in_range": 2}', Reason.ILLEGAL),
]


@pytest.mark.parametrize(("name", "text", "reason"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_illegal_is_refused(name: str, text: str, reason: Reason) -> None:
    assert TASKS[name].parse(text) == Parsed(None, reason)


# Properties


@settings(deadline=None, max_examples=300)
@given(st.data(), TASK_NAMES, BEFORE, AFTER)
def test_targets_are_read_back_whatever_stands_around_them(
    data: st.DataObject, name: str, before: str, after: str
) -> None:
    task = TASKS[name]
    option = data.draw(st.sampled_from(task.options))
    before = before.rstrip(JOINTS)
    assert task.parse(task.target(option)).answer == option
    assert task.parse(task.target(option, before)).answer == option
    assert task.parse(before + task.target(option) + after).answer == option


MARKS = (
    '<answer>{"direction": "S"}',
    "<think>",
    "[THINK]",
    "\u25c1think\u25b7",
    "\\boxed{",
    "not",
    "or",
    "[",
    "}",
    ",",
)


@settings(deadline=None)
@given(data=st.data(), name=TASK_NAMES, before=st.lists(st.sampled_from(MARKS)).map(" ".join) | BEFORE)
def test_canonical_answers_are_read_without_analysis_as_with_it(data: st.DataObject, name: str, before: str) -> None:
    task = TASKS[name]
    assert isinstance(task, ChoiceTask)
    answer = task.json(data.draw(st.sampled_from(task.options)))
    text = before + answer + data.draw(st.sampled_from(("", "\n", " ", ".", "}", "</s>", "]", '{"', answer)))
    assert task.parse(text) == task._read(text)


@settings(deadline=None, max_examples=200)
@given(st.data(), TASK_NAMES, BEFORE)
def test_options_can_be_scored_after_the_prefix(data: st.DataObject, name: str, explanation: str) -> None:
    task = TASKS[name]
    one, other = data.draw(st.sampled_from(task.options)), data.draw(st.sampled_from(task.options))
    said = task.target(one, explanation)
    assert task.answer_prefix(said) + task.target(other) == task.target(other, explanation)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("", ""),
        ("  \n", ""),
        ("It faces north.", "It faces north.\n"),
        ("It faces north. \n", "It faces north.\n"),
        ('{"direction": "N"}', ""),
        ('Red.\n```json\n{"direction": "N"}\n```', "Red.\n```json\n"),
        ('Red.\n{"direction": "N"} no\n{"direction": "S"}', 'Red.\n{"direction": "N"} no\n'),
        ('Red.\n{"direction": "N', "Red.\n"),
        ('Red.\n{"dire', "Red.\n"),
        ("Red {x} blue", "Red {x} blue\n"),
        ('<answer>{"direction": "N"}</answer> so', "<answer>"),
        ("Red. <answer>N</answer>", "Red. <answer>"),
        ('<think>{"direction": "N"}</think>Red.', '<think>{"direction": "N"}</think>Red.\n'),
        ("<think>Red", "<think>Red\n</think>\n"),
        ("Red. <|im_end|>", "Red.\n"),
        ("[THINK]Red ", "[THINK]Red\n[/THINK]\n"),
        ("<|channel|>analysis<|message|>Red", "<|channel|>analysis<|message|>Red\n<|end|>\n"),
    ],
)
def test_prefix_ends_where_the_answer_begins(text: str, prefix: str) -> None:
    assert TASKS[POSE].answer_prefix(text) == prefix


MARKS = '<answer> </answer> <think> </think> {"direction": "N" } { [ , north not so is 2 \\boxed{ \\boxed{N} [THINK]'


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.data(), TASK_NAMES, st.lists(st.sampled_from(MARKS.split())).map(" ".join))
def test_an_option_behind_the_prefix_is_the_answer(data: st.DataObject, name: str, text: str) -> None:
    task = TASKS[name]
    option = data.draw(st.sampled_from(task.options))
    assert task.parse(task.answer_prefix(text) + task.target(option)).answer == option


PIECES = '<answer> </answer> <think> </think> {"direction": "N" } { [ ] , north not so answer is 2 1.5 ``` yes - top :'
HOSTILE = (
    st.text()
    | st.text(alphabet="{}[]:,=\"'\\ \n`<>/NnSs.!?-+0123truefalsnodic")
    | st.lists(st.sampled_from(PIECES.split())).map(" ".join)
)


@settings(deadline=None, max_examples=300)
@given(TASK_NAMES, HOSTILE)
def test_any_text_is_parsed_to_a_legal_answer_or_a_reason(name: str, text: str) -> None:
    task = TASKS[name]
    parsed = task.parse(text)
    if parsed.answer is None:
        assert parsed.reason in list(Reason)
    else:
        assert parsed.answer in task.options
    assert [task.score(parsed, gold) for gold in task.options].count(1.0) == (parsed.answer is not None)
    prefix = task.answer_prefix(text).rstrip("\n").removesuffix(find_answer(text).closing)
    assert prefix.strip() in text


def test_score() -> None:
    task = TASKS[POSE]
    assert task.score(Parsed("N", None), "N") == 1.0
    assert task.score(Parsed("S", None), "N") == 0.0
    assert task.score(Parsed(None, Reason.EMPTY), "N") == 0.0
    with pytest.raises(ValueError, match="gold 'NE'"):
        task.score(Parsed("N", None), "NE")


@pytest.mark.parametrize(
    ("name", "answer", "text"),
    [
        (POSE, "N", '{"direction": "N"}'),
        (RANGE, "true", '{"is_in_range": true}'),
        (PLACE, "top_left", '{"location": "top_left"}'),
        (MAP, "2", '{"matched_aerial_index": 2}'),
    ],
)
def test_target(name: str, answer: str, text: str) -> None:
    task = TASKS[name]
    assert task.target(answer) == task.target(answer, " ") == text
    assert task.target(answer, " Red roof. ") == f"Red roof.\n{text}"
    with pytest.raises(ValueError, match="is not one of"):
        task.target("north")
    with pytest.raises(ValueError, match="<image>"):
        task.target(answer, "see <image>")
