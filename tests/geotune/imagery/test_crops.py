"""The crops of a map have the geometry of GeoX-Bench."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geotune.imagery.crops import CROPS, crop_box
from geotune.tasks import get_task
from tests.geotune.references import camera_in_crop

THIRD, SIXTH = Fraction(1, 3), Fraction(1, 6)
# Fractions of the map that GeoX-Bench cuts off: (left, top, right, bottom).
CUT_OFF = {
    "center": (SIXTH, SIXTH, SIXTH, SIXTH),
    "left": (THIRD, SIXTH, 0, SIXTH),
    "right": (0, SIXTH, THIRD, SIXTH),
    "top": (SIXTH, THIRD, SIXTH, 0),
    "bottom": (SIXTH, 0, SIXTH, THIRD),
    "top_left": (THIRD, THIRD, 0, 0),
    "top_right": (0, THIRD, THIRD, 0),
    "bottom_left": (THIRD, 0, 0, THIRD),
    "bottom_right": (0, 0, THIRD, THIRD),
}
sizes = st.integers(min_value=12, max_value=3000)


def test_names_are_the_legal_answers_of_intra_map() -> None:
    assert get_task("intra_map").options == CROPS
    assert set(CROPS) == set(CUT_OFF)


@pytest.mark.parametrize(("side", "size", "origins"), [(512, 341, (0, 85, 171)), (96, 64, (0, 16, 32))])
def test_reference_geometry(side: int, size: int, origins: tuple[int, int, int]) -> None:
    boxes = [crop_box(name, side, side) for name in CROPS]
    assert {(right - left, bottom - top) for left, top, right, bottom in boxes} == {(size, size)}
    assert sorted({box[0] for box in boxes}) == sorted({box[1] for box in boxes}) == list(origins)


@given(width=sizes, height=sizes, name=st.sampled_from(CROPS))
def test_any_size(width: int, height: int, name: str) -> None:
    left, top, right, bottom = crop_box(name, width, height)
    assert (right - left, bottom - top) == (2 * width // 3, 2 * height // 3)
    exact = (
        CUT_OFF[name][0] * width,
        CUT_OFF[name][1] * height,
        width - CUT_OFF[name][2] * width,
        height - CUT_OFF[name][3] * height,
    )
    assert all(abs(got - want) <= 1 for got, want in zip((left, top, right, bottom), exact, strict=True))
    assert left >= 0
    assert top >= 0
    assert right <= width
    assert bottom <= height


@given(width=sizes, height=sizes, name=st.sampled_from(CROPS))
def test_name_says_where_the_camera_lands(width: int, height: int, name: str) -> None:
    x, y = camera_in_crop(name, width, height)
    want_x = 0.25 if "left" in name else 0.75 if "right" in name else 0.5
    want_y = 0.25 if "top" in name else 0.75 if "bottom" in name else 0.5
    assert abs(x - want_x) <= 1 / (2 * width // 3)
    assert abs(y - want_y) <= 1 / (2 * height // 3)


def test_crops_show_the_camera_where_they_say() -> None:
    pixels = np.zeros((96, 96), np.uint8)
    pixels[47:49, 47:49] = 255
    for name in CROPS:
        rows, columns = np.nonzero(np.asarray(Image.fromarray(pixels).crop(crop_box(name, 96, 96))))
        assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(
            tuple(64 * share for share in camera_in_crop(name, 96, 96))
        )
