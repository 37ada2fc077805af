"""Perspective views: equal to a peer's, true to their headings, also from panoramas that cover a part of the sphere."""

from __future__ import annotations

import math

import numpy as np
import py360convert
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_builders.imagery.panorama import FULL_SPAN, Span, perspective_view

SIDE = 40
CVUSA_RAW_SPAN = (308.57, 154.29)


@pytest.fixture(scope="module")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (90, 180, 3), dtype=np.uint8)


def compass_panorama(height: int = 180, width: int = 360, centre_heading_deg: float = 0.0) -> NDArray[np.uint8]:
    """East, north and up of each pixel's direction as red, green and blue."""
    heading = np.radians((np.arange(width) + 0.5) / width * 360 - 180 + centre_heading_deg)
    elevation = np.radians(90 - (np.arange(height) + 0.5) / height * 180)[:, None]
    east, north = np.sin(heading) * np.cos(elevation), np.cos(heading) * np.cos(elevation)
    up = np.broadcast_to(np.sin(elevation), east.shape)
    return np.rint(127.5 + 127.5 * np.stack([east, north, up], axis=-1)).astype(np.uint8)


def column_of_heading(
    heading_deg: float, width: int, *, centre_heading_deg: float = 0.0, horizontal_span_deg: float = 360.0
) -> float | None:
    """Horizontal position of a heading in pixels, in [0, width), or None if the panorama does not show it."""
    offset = (heading_deg - centre_heading_deg + 180) % 360 - 180
    if horizontal_span_deg < 360 and abs(offset) > horizontal_span_deg / 2:
        return None
    return width * (0.5 + offset / horizontal_span_deg) % width


def rotate_to_north(panorama: NDArray[np.uint8], centre_heading_deg: float) -> NDArray[np.uint8]:
    """The same full-circle panorama (H, W, ...) with north at the center column, to the nearest whole column."""
    width = panorama.shape[1]
    return np.roll(panorama, round(centre_heading_deg / 360 * width), axis=1)


def covered_share(heading_deg: float, *, span_deg: Span = FULL_SPAN) -> float:
    """Share of a square view of 90 degrees, in [0, 1], that a panorama of this span fills."""
    white = np.full((128, 256), 255, np.uint8)
    return float((perspective_view(white, heading_deg, (64, 64), span_deg=span_deg, fill=0) == 255).mean())


@pytest.mark.parametrize("heading_deg", [0, 37.5, 90, 180, 270])
@pytest.mark.parametrize("pitch_deg", [0, 25, -70, 90])
def test_equals_py360convert(noise: NDArray[np.uint8], heading_deg: float, pitch_deg: float) -> None:
    # py360convert puts the centers of the outermost pixels on the edge of the field of view; geotune puts their edges.
    fov_deg = 2 * math.degrees(math.atan(1 - 1 / SIDE))
    yaw = (heading_deg + 180) % 360 - 180
    peer = py360convert.e2p(noise, fov_deg, yaw, pitch_deg, (SIDE, SIDE))
    ours = perspective_view(noise, heading_deg, (SIDE, SIDE), pitch_deg=pitch_deg)
    difference = np.abs(ours.astype(int) - peer)
    assert difference.max() <= 1
    assert difference.mean() < 0.02


@pytest.mark.parametrize("centre_heading_deg", [0.0, 72.5, -140.0])
@pytest.mark.parametrize(("heading_deg", "towards"), [(0, (0, 1)), (90, (1, 0)), (180, (0, -1)), (270, (-1, 0))])
def test_views_look_where_they_say(centre_heading_deg: float, heading_deg: float, towards: tuple[int, int]) -> None:
    panorama = compass_panorama(centre_heading_deg=centre_heading_deg)
    view = perspective_view(panorama, heading_deg, (33, 33), centre_heading_deg=centre_heading_deg) / 127.5 - 1
    east, north, up = view[16, 16]
    assert (east, north) == pytest.approx(towards, abs=0.02)
    assert up == pytest.approx(0, abs=0.02)
    assert view[0, 16, 2] > 0.6
    assert view[-1, 16, 2] < -0.6
    # To the right of a view lies the next heading clockwise.
    right_east, right_north = view[16, -1, 0], view[16, -1, 1]
    assert right_east * towards[1] - right_north * towards[0] > 0.6


def test_wide_views_have_square_pixels() -> None:
    panorama = compass_panorama()
    square, wide = perspective_view(panorama, 30, (60, 60)), perspective_view(panorama, 30, (30, 60))
    assert np.array_equal(square[15:45], wide)


def test_gray_and_color_agree(noise: NDArray[np.uint8]) -> None:
    assert np.array_equal(perspective_view(noise, 10, (8, 8))[..., 1], perspective_view(noise[..., 1], 10, (8, 8)))


@given(
    heading_deg=st.floats(-720, 720),
    centre_heading_deg=st.floats(-360, 360),
    width=st.integers(8, 4096),
)
def test_columns_of_headings(heading_deg: float, centre_heading_deg: float, width: int) -> None:
    column = column_of_heading(heading_deg, width, centre_heading_deg=centre_heading_deg)
    assert column is not None
    assert 0 <= column <= width
    back = (column / width - 0.5) * 360 + centre_heading_deg
    assert abs((back - heading_deg + 180) % 360 - 180) < 1e-6


def test_the_column_of_a_heading_shows_that_heading() -> None:
    panorama = compass_panorama(centre_heading_deg=50)
    for heading_deg in (10, 120, 300):
        column = column_of_heading(heading_deg, panorama.shape[1], centre_heading_deg=50)
        view = perspective_view(panorama, heading_deg, (33, 33), centre_heading_deg=50).astype(int)
        assert np.abs(view[16, 16] - panorama[panorama.shape[0] // 2, int(column)]).max() <= 4


def test_columns_of_a_partial_panorama() -> None:
    assert column_of_heading(0, 1000, horizontal_span_deg=308.57) == 500
    assert column_of_heading(154, 1000, horizontal_span_deg=308.57) == pytest.approx(999.07, abs=0.01)
    assert column_of_heading(180, 1000, horizontal_span_deg=308.57) is None


def test_rotation_puts_north_in_the_middle() -> None:
    for centre_heading_deg in (0, 45, 200, -90):
        panorama = compass_panorama(centre_heading_deg=centre_heading_deg)
        rotated = rotate_to_north(panorama, centre_heading_deg)
        assert np.array_equal(rotated, compass_panorama())
        view = perspective_view(panorama, 30, (20, 20), centre_heading_deg=centre_heading_deg).astype(int)
        assert np.abs(view - perspective_view(rotated, 30, (20, 20))).max() <= 1


def test_partial_panorama_shows_the_same_where_it_covers() -> None:
    full = compass_panorama(720, 1440)
    # 308.57 x 154.29 degrees, rounded to whole pixels of the full one.
    columns, rows = round(1440 * CVUSA_RAW_SPAN[0] / 360), round(720 * CVUSA_RAW_SPAN[1] / 180)
    top, left = (720 - rows) // 2, (1440 - columns) // 2
    part = full[top : top + rows, left : left + columns]
    span = (columns / 4, rows / 4)
    view = perspective_view(part, 20, (50, 50), span_deg=span).astype(int)
    assert np.abs(view - perspective_view(full, 20, (50, 50))).max() <= 2
    assert covered_share(20, span_deg=span) == 1
    behind = perspective_view(part, 180, (50, 50), span_deg=span, fill=0)
    assert np.all(behind[25, 25] == 0)
    assert 0.3 < covered_share(180, span_deg=span) < 0.7
    assert (behind == 0).all(axis=-1).mean() == pytest.approx(1 - covered_share(180, span_deg=span), abs=0.05)


def test_field_of_view_must_be_possible(noise: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="fov_deg=180"):
        perspective_view(noise, 0, (8, 8), fov_deg=180)
