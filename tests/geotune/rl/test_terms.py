"""The terms of a reward: what each says of right, wrong, swapped, unreadable and hostile text."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.errors import ConfigError
from geotune.geo import haversine_km
from geotune.rl import terms as terms_module
from geotune.rl.kernels import multiscale
from geotune.rl.terms import (
    Accuracy,
    Format,
    Geodesic,
    Judge,
    Length,
    PlaceLevel,
    Repetition,
    Term,
    TermValue,
)
from geotune.sample import Sample
from geotune.tasks import CROSS_VIEW_TASKS, TASKS
from geotune.tasks.coordinates import Coordinates
from tests.geotune.rl.questions import PARIS, TOKYO, address, photo, says
from tests.geotune.samples import a_sample

unhurried = settings(deadline=None)  # machines share their cores
VERDICT = a_sample("verdict", task="judge", answer="true")
HEADING = a_sample("heading", task="pose_fixed", answer="N")
PLACES = st.tuples(st.integers(-89, 89), st.integers(-179, 179)).filter(lambda at: at != (0, 0))


# Failures of released code, by the letters under which they are known.


@unhurried
@given(PLACES)
def test_a_an_exact_answer_is_worth_1_in_every_notation(at: tuple[int, int]) -> None:
    """Failure (a): latitude and longitude exchanged when parsing, so that an exact answer scores 0."""
    lat, lon = at
    south, west = "NS"[lat < 0], "EW"[lon < 0]
    notations = [
        says(lat, lon),
        f'{{"longitude": {lon}, "latitude": {lat}}}',
        f"<think>Hm.</think><answer>({lat}.0, {lon}.0)</answer>",
        f"{abs(lat)}.0° {south}, {abs(lon)}.0° {west}",
        f"{abs(lon)}.0°{west} {abs(lat)}.0°{south}",
        f"longitude: {lon}.0, latitude: {lat}.0",
    ]
    for text in notations:
        said = Geodesic()(text, photo(lat, lon))
        assert (said.value, said.reason, said.place) == (1.0, None, Coordinates(lat, lon)), text


@unhurried
@given(PLACES, st.sampled_from([1e-3, 1.0, 750.0, 1e6]))
def test_b_no_distance_overflows(at: tuple[int, int], theta_km: float) -> None:
    """Failure (b): e^(d/theta) overflows beyond d/theta = 709, which an antipode exceeds at any theta below 28 km."""
    antipode = -at[0], at[1] - 180 if at[1] > 0 else at[1] + 180
    said = Geodesic(kernel="sigmoid", theta_km=theta_km)(says(*antipode), photo(*at))
    assert 0 <= said.value < 1


@pytest.mark.parametrize(
    ("text", "reads", "reason"),
    [
        ("In 2 of 3 cases 40.7, -74.0 is wrong.\n" + says(*PARIS), PARIS, None),
        (f"At first I thought {says(*TOKYO)}, but the signs are French: {says(*PARIS)}", PARIS, None),
        (says(*PARIS) + f"\nNo, that is wrong. Final answer: {says(*TOKYO, before='')}", TOKYO, None),
        ("33.8688 S, 151.2093 E", (-33.8688, 151.2093), None),
        ("34.6 S, 58.4 W", (-34.6, -58.4), None),
        (says(0, 0), None, "null_island"),
        (says("0.0", "0.0"), None, "null_island"),
        (says("...", "..."), None, None),
        ("The photo shows 2 cars and 14 houses.", None, None),
        (says(91, 10), None, "out_of_range"),
        (says(10, 181), None, "out_of_range"),
        ("", None, "empty"),
        (" \n ", None, "empty"),
        (says('"unknown"', "null"), None, "missing"),
    ],
)
def test_c_the_final_answer_counts_and_nothing_that_is_none(
    text: str, reads: tuple[float, float] | None, reason: str | None
) -> None:
    """Failure (c): the first two numbers, ignored hemispheres, an echoed template, the first instead of the final."""
    sample = photo()
    said, parsed = Geodesic()(text, sample), TASKS["geolocate"].parse(text)
    assert (said.read, said.place) == (parsed.answer, None if reads is None else Coordinates(*reads))
    if reads is None:
        assert said.value == 0
        assert said.reason == parsed.reason is not None
        assert reason in (None, said.reason)
    else:
        assert said.value == pytest.approx(float(multiscale(haversine_km(*reads, *PARIS))))


@unhurried
@given(st.floats(2.0, 20_000.0))
def test_d_a_nearer_guess_earns_more_at_every_range(d_km: float) -> None:
    """Failure (d): flat at long range, so that a group of far guesses has no gradient."""
    degrees = d_km / 111.195
    nearer, farther = (Geodesic()(says(90 - part * degrees, 0.001), photo(90, 0.001)).value for part in (0.95, 1.0))
    assert nearer - farther > 1e-4


def test_e_a_failure_is_not_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failure (e): a bare except that turns a broken gazetteer into 0. A term lets it through to the reward."""

    def broken(*_: Any) -> None:
        raise OSError("gazetteer.csv is gone")

    monkeypatch.setattr(terms_module, "finest_level", broken)
    with pytest.raises(OSError, match="is gone"):
        PlaceLevel()(says(*PARIS), photo())


# Exchanged coordinates stay wrong, and are told.


@pytest.mark.parametrize(
    ("at", "value_is_0"),
    [(PARIS, False), (TOKYO, True)],  # Tokyo's longitude is no latitude
)
def test_a_swapped_answer_stays_wrong_and_says_so(at: tuple[float, float], value_is_0: bool) -> None:
    said = Geodesic()(says(at[1], at[0]), photo(*at))
    assert said.reason == "swapped"
    assert said.value < 0.2
    assert (said.value == 0) == (said.read is None) == value_is_0


def test_a_swapped_answer_beside_names_is_told_too() -> None:
    tokyo = address(city="Tokyo", country="Japan", state=None, latitude=TOKYO[0], longitude=TOKYO[1])
    text = f'{{"city": "Tokyo", "country": "Japan", "latitude": {TOKYO[1]}, "longitude": {TOKYO[0]}}}'
    said = Geodesic()(text, tokyo)
    assert (said.value, said.reason, said.place) == (0, "swapped", None)
    unplaced = Geodesic()('{"city": "Tokyo", "country": "Japan"}', tokyo)
    assert (unplaced.value, unplaced.reason) == (0, "no_coordinates")


def test_a_right_answer_near_the_diagonal_is_not_swapped() -> None:
    said = Geodesic()(says(40.0, 40.1), photo(40.1, 40.0))
    assert said.reason is None


# Forms


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (says(*PARIS), None),
        (says(*PARIS, before=""), None),
        (says(*PARIS) + "\n", None),
        ('{"longitude": 2.3522, "latitude": 48.8566}', None),
        (says(*PARIS) + "\nI hope this helps.", "form"),
        (f"```json\n{says(*PARIS, before='')}\n```", "form"),
        ("48.8566, 2.3522", "form"),
        ('{"lat": 48.8566, "lon": 2.3522}', "form"),
        ('{"latitude": 48.8566, "longitude": 2.3522, "city": "Paris"}', "form"),
        ('{"answer": {"latitude": 48.8566, "longitude": 2.3522}}', "form"),
        ("{'latitude': 48.8566, 'longitude': 2.3522}", "form"),
        (says(0, 0), "null_island"),
        ("", "empty"),
    ],
)
def test_the_form_of_json(text: str, reason: str | None) -> None:
    said = Format()(text, photo())
    assert (said.value, said.reason) == (float(reason is None), reason)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("explanation", [None, "I see a {tower} and 2 cars."])
def test_what_a_task_teaches_has_its_form(name: str, explanation: str | None) -> None:
    golds = {"geolocate": photo().answer, "address": address().answer}
    task = TASKS[name]
    gold = golds.get(name) or task.options[-1]
    sample = a_sample(task=name, answer=gold)
    for term in (Format(), Accuracy()):
        assert term(task.target(gold, explanation), sample).value == 1
    assert Format()("<think>So.</think>\n" + task.target(gold), sample).value == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>A tower.</think><answer>(48.86, 2.35)</answer>", None),
        (f" <think>\nA tower.\n</think>\n<answer>\n{says(*PARIS)}\n</answer>\n", None),
        ("<answer>(48.86, 2.35)</answer>", "form"),
        ("<think></think><answer>(48.86, 2.35)</answer>", "form"),
        ("<think>A tower.</think> So: <answer>(48.86, 2.35)</answer>", "form"),
        ("<think>A tower.</think><answer>(48.86, 2.35)</answer> Bye.", "form"),
        ("<think>A.</think><think>B.</think><answer>(48.86, 2.35)</answer>", "form"),
        ("<think>A.</think><answer>(1.0, 2.0)</answer><answer>(48.86, 2.35)</answer>", "form"),
        ("<think>A tower.</think><answer>I cannot tell.</answer>", "missing"),
        ("<think>A tower.<answer>(48.86, 2.35)</answer>", "missing"),
    ],
)
def test_the_form_of_think_and_answer(text: str, reason: str | None) -> None:
    said = Format(form="think_answer")(text, photo())
    assert (said.value, said.reason) == (float(reason is None), reason)


# Scores of tasks


def test_accuracy_is_the_score_of_the_task() -> None:
    assert Accuracy()('{"direction": "N"}', HEADING) == TermValue(1.0, None, "N")
    assert Accuracy()("The camera looks south.", HEADING) == TermValue(0.0, None, "S")
    assert Accuracy()("Who knows?", HEADING).value == 0
    assert Accuracy()("Who knows?", HEADING).reason is not None
    far = Accuracy()(says(*TOKYO), photo())
    assert far.value == pytest.approx(math.exp(-haversine_km(*PARIS, *TOKYO) / 1492.7))


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"is_correct": true}', 1), ("Yes, it is correct.", 1), ("false", 0), ("true or false", 0), ("", 0)],
)
def test_a_verdict_is_right_or_not(text: str, value: int) -> None:
    assert Judge()(text, VERDICT).value == value
    assert Judge()(text, a_sample(task="judge", answer="false")).value == (1 if text == "false" else 0)


@pytest.mark.parametrize(
    ("term", "sample", "refused"),
    [
        (Judge(), VERDICT, None),
        (Judge(), HEADING, "the task pose_fixed asks for no verdict"),
        (Geodesic(), photo(), None),
        (Geodesic(), address(), None),
        (Geodesic(), HEADING, "states no coordinates"),
        (Geodesic(), address(latitude=None, longitude=None), "states no coordinates"),
        (PlaceLevel(), address(latitude=None, longitude=None), None),
        (PlaceLevel(), VERDICT, "states no coordinates"),
        (Accuracy(), VERDICT, None),
        (Format(), HEADING, None),
    ],
)
def test_samples_that_a_term_cannot_judge_are_refused(term: Term, sample: Sample, refused: str | None) -> None:
    said = term.refusal(sample)
    assert said is None if refused is None else refused in str(said)


# Places by name

NAMES_ALONE = address(city="Mantes", state=None, latitude=None, longitude=None)
MUNICH = address(city="München", state=None, country="Deutschland", latitude=48.14, longitude=11.58)


@pytest.mark.parametrize(
    ("text", "sample", "value", "reason"),
    [
        (says(*PARIS), photo(), 1, None),
        (says(48.80, 2.60), photo(), 1, None),  # 19 km away: a suburb
        (says(48.0, 1.5), photo(), 0.5, "region_only"),
        (says(43.3, 5.4), photo(), 0.25, "country_only"),
        (says(*TOKYO), photo(), 0, "elsewhere"),
        ('{"city": "Paris", "country": "France"}', address(), 1, None),
        ('{"city": "PARÍS", "state": "Ile de France", "country": "FR"}', address(), 1, None),
        ('{"city": "Paris", "state": "Texas", "country": "United States"}', address(), 0, "elsewhere"),
        ('{"city": "Versailles", "state": "Île-de-France", "country": "France"}', address(), 0.5, "region_only"),
        ('{"city": "Lyon", "country": "France"}', address(), 0.25, "country_only"),
        ('{"city": "Lyon"}', address(), 0.25, "country_only"),  # the gazetteer knows where Lyon is
        ('{"country": "République"}', address(), 0, "elsewhere"),
        ('{"city": "Paris"}', address(), 1, None),
        ('{"city": "Marseilles", "country": "France"}', address(city="Marseille", state=None), 1, None),
        ('{"city": "Nantes", "country": "France"}', NAMES_ALONE, 0.25, "country_only"),  # one letter, but another town
        ('{"city": "Munich", "country": "Germany"}', MUNICH, 1, None),
        (says(*PARIS), address(), 1, None),
        (says(43.3, 5.4), address(), 0.25, "country_only"),
        (says(0, 0), photo(), 0, "null_island"),
        (says(47.55, 7.70), photo(47.60, 7.55), 1, None),  # Basel's suburbs in three countries
    ],
)  # fmt: skip
def test_the_finest_level_that_is_right(text: str, sample: Sample, value: float, reason: str | None) -> None:
    said = PlaceLevel()(text, sample)
    assert (said.value, said.reason) == (value, reason)


@pytest.mark.parametrize(
    ("said", "truth"), [("Springfield", "Illinois"), ("St. Louis", "Missouri"), ("Portland", "Maine")]
)
def test_a_city_of_that_name_in_another_state_is_another_city(said: str, truth: str) -> None:
    gold = address(city=said, state=truth, country="USA", latitude=None, longitude=None)
    right = f'{{"city": "{said.upper()}", "state": "{truth}", "country": "United States of America"}}'
    wrong = f'{{"city": "{said}", "state": "Oregon", "country": "U.S."}}'
    assert PlaceLevel()(right, gold).value == 1
    assert PlaceLevel()(wrong, gold).value == 0.25


# Length and repetition


@unhurried
@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 1200))
def test_length_falls_in_a_line_behind_the_soft_limit(soft: int, more: int, length: int) -> None:
    said = Length(soft=soft, hard=soft + more)("a" * length, HEADING)
    assert said.value == pytest.approx(min(1, max(0, (soft + more - length) / more)))
    assert (said.reason is None) == (length <= soft)


def test_repetition_is_the_share_of_repeated_n_grams() -> None:
    prose = "The sign beside the road is yellow, the cars drive on the left and palms grow behind the wall."
    assert Repetition()(prose, HEADING) == TermValue(1.0)
    assert Repetition()("", HEADING).value == 1
    once, often = (Repetition()(" ".join([prose] * times), HEADING).value for times in (2, 50))
    assert 0.4 < once < 0.6
    assert often == pytest.approx(1 / 50, rel=0.1)
    assert Repetition()("a" * 100_000, HEADING).value < 0.01  # one word, but a repeated one
    assert Repetition(n=1)("a b a b", HEADING).value == 0.5


# Options


@pytest.mark.parametrize(
    "make",
    [
        lambda: Format(weight=-1),
        lambda: Format(weight=math.nan),
        lambda: Format(weight=math.inf),
        lambda: Format(form="xml"),  # type: ignore[arg-type]
        lambda: Geodesic(theta_km=0),
        lambda: Geodesic(theta_km=math.inf),
        lambda: Geodesic(kernel="gaussian"),  # type: ignore[arg-type]
        lambda: Geodesic(tighten=True),
        lambda: Geodesic(kernel="sigmoid", tighten=True, least_theta_km=1000),
        lambda: PlaceLevel(country=0.6),
        lambda: PlaceLevel(city=1.5),
        lambda: Length(soft=10, hard=10),
        lambda: Length(soft=-1),
        lambda: Repetition(n=0),
    ],
)
def test_options_check_themselves(make: Callable[[], Term]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_the_scale_tightens_and_both_kinds_of_values_follow() -> None:
    term = Geodesic(kernel="sigmoid", theta_km=800, tighten=True)
    sample = photo()
    before = term(says(*TOKYO), sample).value
    for _ in range(40):
        term.scale.note(0.5)
    assert term.scale.theta_km == 400
    after = term(says(*TOKYO), sample).value
    assert after < before
    assert after == pytest.approx(float(term.values(haversine_km(*PARIS, *TOKYO))), rel=1e-6)


# Hostile text

ALL: list[Term] = [Format(), Format(form="think_answer"), Accuracy(), Geodesic(), PlaceLevel(), Length(), Repetition()]
READERS = ALL[:5]
CHOICES = (a_sample(task=name, answer=TASKS[name].options[0]) for name in CROSS_VIEW_TASKS)
SAMPLES = [photo(), address(), VERDICT, *CHOICES]
PIECES = [
    *('{"latitude": ', '"longitude": 2.35}', "{", "}", "[", '"', "\\", "|", "```json", "\n", "City: ", "Paris", "N"),
    *("<think>", "</think>", "<answer>", "</answer>", "\ud800", "\0", "\u202e", "NaN", "Infinity", "48.85", "-", "°"),
    *("true", "1e999", "9" * 400),
]
TEXTS = st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(SAMPLES), TEXTS)
def test_any_text_has_a_value(sample: Sample, text: str) -> None:
    for term in ALL:
        if term.refusal(sample) is None:
            said = term(text, sample)
            assert 0 <= said.value <= 1
            assert term(text, sample) == said  # a pure function
            if term in READERS and said.read is None:
                assert said.value == 0
                assert said.reason is not None


@pytest.mark.parametrize(
    "piece", ["{", "<think>", "<answer>1", "1,", '{"latitude": ', "48°51'N ", "\ud800", "City: Paris\n", "a"]
)
def test_100_kilobytes_take_linear_time(piece: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        terms_module._parsed.cache_clear()
        begin = time.process_time()
        for term in ALL:
            term(text, address())
        return time.process_time() - begin

    seconds(1000)
    whole = seconds(100_000)
    assert whole < 8 * seconds(25_000) + 0.5  # four times as much text; a quadratic term would take 16 times as long
