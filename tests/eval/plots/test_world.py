"""The map of truths and guesses: its data, its lines, and its pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from eval.plots.world import (
    GUESS_COLOR,
    HEIGHT_PX,
    LAND_COLOR,
    LINE_COLORS,
    MOST_DRAWN,
    TRUTH_COLOR,
    WIDTH_PX,
    great_circles,
    pixel_at,
    plot_world,
    world_figure,
    world_map,
)
from eval.suites.distance import DistanceSuite
from geotune.geo import haversine_km
from geotune.runs.predictions import Prediction

Place = tuple[float, float]
PARIS, NEW_YORK, TOKYO, SANTIAGO = (48.9, 2.4), (40.7, -74.0), (35.7, 139.7), (-33.5, -70.7)


def text_of(place: Place) -> str:
    return json.dumps({"latitude": float(place[0]), "longitude": float(place[1])})


def prediction(number: int, truth: Place, guess: Place | None, suite: str = "far") -> Prediction:
    said = None if guess is None else text_of(guess)
    return Prediction(
        suite=suite,
        id=f"photo/{number}",
        task="geolocate",
        place="",
        source="",
        gold=text_of(truth),
        raw=said or "",
        answer=said,
        reason=None if said else "nothing_found",
        score=0.0,
    )


def spread(count: int, seed: int = 0) -> list[Prediction]:
    """Predictions with guesses anywhere; every tenth could not be read."""
    rng = np.random.default_rng(seed)
    places = np.stack([rng.uniform(-89, 89, (count, 2)), rng.uniform(-179, 179, (count, 2))], axis=-1).round(4)
    return [prediction(i, tuple(t), None if i % 10 == 9 else tuple(g)) for i, (t, g) in enumerate(places)]


# --- data ---


def test_the_figures_are_those_of_the_suite() -> None:
    predictions = spread(57)
    figures = DistanceSuite(path="unused").measure([None] * 57, predictions).figures  # type: ignore[list-item]
    world = world_map("far", 20, predictions)
    assert (world.suite, world.step, world.photos) == ("far", 20, 57)
    assert (world.median_km, world.read_rate) == (figures["median_km"], figures["coverage"])
    errors = world.errors_km[world.is_read]
    assert np.median(errors) == pytest.approx(figures["answered_only"]["median_km"])
    assert np.isnan(world.errors_km[~world.is_read]).all()
    assert (~world.is_read).sum() == 5


def test_other_suites_and_draws_stay_off_the_map() -> None:
    own = [prediction(0, PARIS, TOKYO), prediction(1, NEW_YORK, None)]
    others = [prediction(2, TOKYO, TOKYO, "near"), replace(prediction(0, PARIS, PARIS), repeat=1)]
    world = world_map("far", 0, others + own)
    assert sorted(map(tuple, world.truths.tolist())) == sorted([PARIS, NEW_YORK])
    assert world.guesses[world.is_read].tolist() == [list(TOKYO)]
    assert (world.photos, world.read_rate) == (2, 0.5)


def test_the_same_photos_are_drawn_at_every_step_and_in_any_order() -> None:
    predictions = spread(1000)
    later = [replace(p, answer=text_of(PARIS)) for p in predictions]
    first, second = world_map("far", 0, predictions), world_map("far", 50, later[::-1])
    assert len(first.truths) == len(first.guesses) == MOST_DRAWN == 300
    assert first.truths.tolist() == second.truths.tolist()
    assert first.photos == 1000
    assert world_map("far", 0, predictions, most=1000).median_km == first.median_km, "figures are over all photos"
    numbers = {tuple(json.loads(p.gold).values()): index for index, p in enumerate(predictions)}
    chosen = np.array([numbers[tuple(truth)] for truth in first.truths.tolist()])
    assert 400 < chosen.mean() < 600, "from all of them, not the first ones"


def test_gold_without_coordinates_is_refused() -> None:
    with pytest.raises(ValueError, match="suite far: gold answers without coordinates"):
        world_map("far", 0, [replace(prediction(0, PARIS, TOKYO), gold="north")])


# --- lines ---

lats = st.floats(-90, 90) | st.sampled_from([-90.0, 90.0, 0.0])
lons = st.floats(-180, 180) | st.sampled_from([-180.0, 180.0, 0.0, 179.9])
places = st.tuples(lats, lons)


@given(places, places)
@example((0.0, 0.0), (0.0, 180.0))
@example((90.0, 10.0), (-90.0, 10.0))
@example((30.0, 40.0), (-30.0, -140.0))
@example((10.0, 179.0), (10.0, -179.0))
@example((7.0, 7.0), (7.0, 7.0))
def test_a_line_is_the_shorter_great_circle(start: Place, end: Place) -> None:
    (line,) = great_circles([start], [end])
    assert line.shape == (61, 2)
    assert np.isfinite(line).all()
    assert haversine_km(*line[0], *start) < 0.01
    assert haversine_km(*line[-1], *end) < 0.01
    steps = haversine_km(*line[:-1].T, *line[1:].T)
    whole = haversine_km(*start, *end)
    assert steps.sum() == pytest.approx(whole, abs=0.1), "no detour"
    assert steps == pytest.approx(whole / 60, abs=0.01), "evenly spaced"
    assert (np.abs(np.diff(line[:, 1])) <= 180.0 + 1e-9).all()


def test_a_line_goes_on_beyond_the_date_line() -> None:
    east, west = great_circles([(10.0, 170.0), (10.0, -170.0)], [(10.0, -170.0), (10.0, 170.0)])
    assert east[-1, 1] == pytest.approx(190.0)
    assert west[-1, 1] == pytest.approx(-190.0)
    assert east[:, 0].max() > 10.0, "over the north of the parallel"


def test_no_lines() -> None:
    assert great_circles(np.empty((0, 2)), np.empty((0, 2))).shape == (0, 61, 2)


# --- pixels ---


@pytest.fixture
def drawn(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Draws predictions; returns the pixels (height, width, 3) of the file."""

    def draw(predictions: Sequence[Prediction]) -> np.ndarray:
        path = tmp_path / "maps" / "far_step_000007.png"
        plot_world(world_map("far", 7, predictions), path)
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.size == (WIDTH_PX, HEIGHT_PX)
            return np.asarray(image.convert("RGB")).astype(int)

    return draw


def color_at(pixels: np.ndarray, lat: float, lon: float) -> tuple[int, ...]:
    x, y = pixel_at(lat, lon)
    return tuple(pixels[int(y), int(x)].tolist())


def rgb(color: str) -> tuple[int, ...]:
    return ImageColor.getrgb(color)


def line_color(column: np.ndarray) -> str:
    """The color of a line across white pixels (N, 3), which smoothing and transparency have made paler."""
    ink = 255.0 - column.min(axis=0)
    inks = {color: 255.0 - np.array(rgb(color)) for color in LINE_COLORS}
    assert ink.max() > 40, "there is a line"
    return min(inks, key=lambda color: np.abs(ink / ink.max() - inks[color] / inks[color].max()).max())


def test_dots_lie_where_they_must(drawn) -> None:  # type: ignore[no-untyped-def]
    pixels = drawn([prediction(0, PARIS, NEW_YORK), prediction(1, SANTIAGO, TOKYO)])
    for truth in (PARIS, SANTIAGO):
        assert color_at(pixels, *truth) == rgb(TRUTH_COLOR)
    for guess in (NEW_YORK, TOKYO):
        assert color_at(pixels, *guess) == rgb(GUESS_COLOR)
    swapped = drawn([prediction(0, NEW_YORK, PARIS)])
    assert color_at(swapped, *PARIS) == rgb(GUESS_COLOR)
    assert color_at(swapped, *TOKYO) not in (rgb(TRUTH_COLOR), rgb(GUESS_COLOR))


def test_land_and_sea(drawn) -> None:  # type: ignore[no-untyped-def]
    pixels = drawn([prediction(0, PARIS, PARIS)])
    for lat, lon in ((47.0, 103.0), (-23.0, 133.0), (23.0, 10.0), (-85.0, 100.0), (72.0, -40.0)):
        assert color_at(pixels, lat, lon) == rgb(LAND_COLOR)
    for lat, lon in ((41.9, 50.6), (5.0, -140.0), (-40.0, 85.0)):  # the first one is the Caspian Sea
        assert color_at(pixels, lat, lon) == (255, 255, 255)


def test_a_line_takes_the_shorter_way_round_in_the_color_of_its_length(drawn) -> None:  # type: ignore[no-untyped-def]
    fiji, samoa = (-17.0, 175.0), (-15.0, -172.0)
    assert 750 < haversine_km(*fiji, *samoa) < 2500
    pixels, without = drawn([prediction(0, fiji, samoa)]), drawn([prediction(0, fiji, None)])
    ys, xs = np.nonzero((pixels != without).any(axis=-1))
    on_map = (ys > pixel_at(90, 0)[1]) & (ys < pixel_at(-90, 0)[1])
    assert on_map.any()
    west, east = pixel_at(0, -170)[0], pixel_at(0, 173)[0]
    assert ((xs[on_map] < west) | (xs[on_map] > east)).all(), "nothing is drawn across the whole map"
    for lat, lon in ((-16.3, 179.0), (-15.9, -178.0)):
        x, y = (int(pixel) for pixel in pixel_at(lat, lon))
        assert line_color(pixels[y - 3 : y + 4, x]) == LINE_COLORS[3]
    assert color_at(pixels, *samoa) == rgb(GUESS_COLOR)
    far = drawn([prediction(0, (0.0, -30.0), (0.0, -10.0)), prediction(1, (5.0, -120.0), (5.0, -150.0))])
    for lat, lon, color in ((0.0, -20.0, LINE_COLORS[3]), (5.2, -135.0, LINE_COLORS[4])):
        x, y = (int(pixel) for pixel in pixel_at(lat, lon))
        assert line_color(far[y - 3 : y + 4, x + 2]) == color


def test_an_unread_answer_leaves_a_cross(drawn) -> None:  # type: ignore[no-untyped-def]
    x, y = (int(pixel) for pixel in pixel_at(0.0, -135.0))

    def marker(guess: Place | None) -> np.ndarray:
        """The box around the pixels of a truth in the ocean, true where they have its color."""
        part = drawn([prediction(0, (0.0, -135.0), guess)])[y - 9 : y + 10, x - 9 : x + 10]
        ink = np.abs(part - rgb(TRUTH_COLOR)).max(axis=-1) < 60
        rows, columns = np.nonzero(ink.any(axis=1))[0], np.nonzero(ink.any(axis=0))[0]
        return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]

    cross, dot = marker(None), marker(TOKYO)
    for ends in (cross[:, :2], cross[:, -2:]):
        assert ends[:2].any()
        assert ends[-2:].any()
        assert not ends[3:-3].any(), "nothing between the arms"
    height, width = dot.shape
    assert dot[height // 2].all()
    assert dot[:, width // 2].all()
    assert min(cross.shape) > max(dot.shape) >= 4


def test_truths_and_guesses_differ_in_gray() -> None:
    truth, guess, land = (gray(color) for color in (TRUTH_COLOR, GUESS_COLOR, LAND_COLOR))
    assert truth + 50 < guess < land - 50
    assert all(gray(near) > gray(far) + 20 for near, far in pairwise(LINE_COLORS))


def gray(color: str) -> int:
    """The brightness of a color, 0 to 255."""
    return int(np.asarray(Image.new("RGB", (1, 1), color).convert("L"))[0, 0])


# --- words ---


def words(figure: Figure) -> list[str]:
    """The title, the number of photos, and the legend."""
    (legend,) = figure.legends
    return sorted((text.get_text() for text in figure.texts), key=len, reverse=True) + [
        text.get_text() for text in legend.texts
    ]


def test_title_legend_and_number_of_photos(tmp_path: Path) -> None:
    many = spread(1000)
    world = world_map("far", 12_000, many)
    title, number, *legend = words(world_figure(world))
    median = f"{world.median_km:,.0f}"
    assert title == f"far, step 12,000: median error {median} km over 1,000 photos, 90.0% of the answers read"
    assert number == "300 of 1,000 photos drawn"
    assert legend == ["truth", "guess", f"truth, answer not read ({(~world.is_read).sum()})"]
    alone = world_map("$\\frac{1$", 0, [replace(many[0], suite="$\\frac{1$")])
    title, number, *legend = words(world_figure(alone))
    plot_world(alone, tmp_path / "map.png")  # which would fail if the name were read as a formula
    assert title.startswith("$\\frac{1$, step 0: ")
    assert number == "all 1 photos drawn"
    assert legend == ["truth", "guess"]


def test_no_answer_could_be_read(drawn) -> None:  # type: ignore[no-untyped-def]
    pixels = drawn([prediction(0, SANTIAGO, None)])
    assert color_at(pixels, *SANTIAGO) == rgb(TRUTH_COLOR)
    title, *_ = words(world_figure(world_map("far", 0, [prediction(0, SANTIAGO, None)])))
    assert title == "far, step 0: median error 20,015 km over 1 photos, 0.0% of the answers read"
    assert math.isclose(world_map("far", 0, [prediction(0, SANTIAGO, None)]).median_km, math.pi * 6371)
