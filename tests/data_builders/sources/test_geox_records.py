"""The names of GeoX-Bench's index files, which were published in several spellings."""

from __future__ import annotations

import pytest

from data_builders.sources.geox_records import canonical_names


@pytest.mark.parametrize(
    ("stem", "names"),
    [
        ("OmniCity_View1", ("OmniCity_view1", "OmniCity")),
        ("LLMGeo_zoom20", ("LMMGeo_zoom20", "LMMGeo")),
        ("VIGOR_Chicago", ("VIGOR_Chicago", "VIGOR_Chicago")),
        ("CVGlobal", ("CVGloable", "CVGloable")),
        ("my_city_zoom7", ("my_city_zoom7", "my_city")),
    ],
)
def test_names_vary(stem: str, names: tuple[str, str]) -> None:
    assert canonical_names(stem) == names
