"""The names of columns: which are the photo's coordinates, which qualify them, and which are other quantities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_builders.sources.table_columns import find_columns
from geotune.errors import ConfigError

ORIGINS = ("", "gt", "true", "ground truth", "gps", "exif", "photo", "image", "camera", "location", "geo", "actual")
UNITS = ("", "deg", "degrees", "decimal", "dd", "wgs84")
AXES = (("lat", "lon"), ("lat", "lng"), ("lat", "long"), ("latitude", "longitude"))
OTHERS = (
    *(
        "pred",
        "predicted",
        "min",
        "max",
        "delta",
        "std",
        "err",
        "error",
        "bin",
        "rad",
        "nearest",
        "city",
        "start",
        "end",
    ),
    *("mean", "sigma", "north", "center", "e7", "2", "offset", "private", "dest", "guess", "utm", "x"),
)


def roles(*header: str, **chosen: str) -> Mapping[str, str]:
    return find_columns(("id", *header), chosen, Path("t.csv"), "csv").roles()


@st.composite
def spelled(draw: st.DrawFn, words: st.SearchStrategy[list[str]]) -> str:
    """Words as a column's name, in one of the manners in which names are written."""
    chosen = [word for text in draw(words) for word in text.split()]
    manner = draw(st.sampled_from(["snake", "camel", "Pascal", "joined", "spaced", "dotted", "UPPER", "brackets"]))
    if manner == "camel":
        return chosen[0] + "".join(word.capitalize() for word in chosen[1:])
    if manner == "Pascal":
        return "".join(word.upper() if word == "gps" else word.capitalize() for word in chosen)
    if manner == "brackets" and len(chosen) > 1:
        return f"{' '.join(chosen[:-1])} ({chosen[-1]})"
    between = {"joined": "", "spaced": " ", "dotted": ".", "UPPER": "_"}.get(manner, "_")
    return between.join(chosen).upper() if manner == "UPPER" else between.join(chosen)


def named(axis: str, more: st.SearchStrategy[list[str]]) -> st.SearchStrategy[str]:
    """Names of an axis among further words, in any order."""
    return spelled(more.flatmap(lambda words: st.permutations([axis, *words])))


QUALIFIERS = st.tuples(st.sampled_from(ORIGINS), st.sampled_from(UNITS)).map(lambda two: [word for word in two if word])


@given(st.sampled_from(AXES).flatmap(lambda axes: st.tuples(*(named(axis, QUALIFIERS) for axis in axes))))
def test_coordinates_are_found_under_every_name_of_their_family(names: tuple[str, str]) -> None:
    found = roles(*names)
    assert (found["lat"], found["lon"]) == names


@given(
    st.sampled_from(AXES).flatmap(
        lambda axes: st.tuples(
            *(named(axis, st.tuples(st.sampled_from(OTHERS), QUALIFIERS).map(lambda t: [t[0], *t[1]])) for axis in axes)
        )
    )
)
def test_other_quantities_are_no_coordinates(names: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="no column looks like the lat"):
        roles(*names)
    assert {"lat": "lat", "lon": "lon"}.items() <= roles("lat", "lon", "lat_max", *names).items()


@pytest.mark.parametrize(
    "header",
    [
        "gbifID,decimalLatitude,decimalLongitude,coordinateUncertaintyInMeters",
        "SourceFile,GPSLatitude,GPSLongitude,GPSAltitude",
        "image,gt_lat,gt_long,pred_lat,pred_long",
        "image,true_lat,true_lng",
        "id,lat_gt,lon_gt",
        "photo,EXIF:GPSLatitude,EXIF:GPSLongitude",
        "photo_id,Latitude [°],Longitude [°]",
        "uuid,latitude_deg,longitude_deg",
        "id,location.lat,location.lng",
    ],
)
def test_published_names(header: str) -> None:
    names = header.split(",")
    found = find_columns(names, {} if "gbifID" not in names else {"id": "gbifID"}, Path("t.csv"), "csv").roles()
    assert (found["lat"], found["lon"]) == (names[1], names[2])


@pytest.mark.parametrize(
    ("lat_ref", "lon_ref"),
    [
        ("GPSLatitudeRef", "GPSLongitudeRef"),
        ("LatitudeRef", "LongitudeRef"),
        ("lat_ref", "lon_ref"),
        ("latRef", "lngRef"),
        ("lat_dir", "lon_dir"),
        ("latitude_direction", "longitude_direction"),
        ("Lat Hemisphere", "Long Hemisphere"),
        ("NS", "EW"),
        ("N/S", "E/W"),
        ("lat_NS", "lon_EW"),
        ("ns_indicator", "ew_indicator"),
    ],
)
def test_hemispheres_in_columns_of_their_own(lat_ref: str, lon_ref: str) -> None:
    found = roles("lat", lat_ref, "lon", lon_ref, "direction", "heading_ref")
    assert (found["lat_ref"], found["lon_ref"]) == (lat_ref, lon_ref)


def test_a_hemisphere_of_no_axis_can_be_chosen() -> None:
    assert "lat_ref" not in roles("lat", "lon", "hemisphere")
    found = roles("lat", "lon", "hemisphere", "halves", lat_ref="halves")
    assert found["lat_ref"] == "halves"
    assert "lon_ref" not in found


@pytest.mark.parametrize(
    ("header", "value", "ref"),
    [
        ("lat,lon,gps_lat,gps_lon,gps_lat_ref,gps_lon_ref", "lat", None),
        ("gps_lat,gps_lon,lat_ref,lon_ref", "gps_lat", "lat_ref"),
        ("EXIF:GPSLatitude,EXIF:GPSLongitude,GPSLatitudeRef,GPSLongitudeRef", "EXIF:GPSLatitude", "GPSLatitudeRef"),
        ("Composite:GPSLatitude,Composite:GPSLongitude,GPSLatitude,GPSLongitude,GPSLatitudeRef", "GPSLatitude", None),
    ],
)
def test_a_hemisphere_belongs_to_the_coordinate_of_its_origin(header: str, value: str, ref: str | None) -> None:
    found = roles(*header.split(","))
    assert found["lat"] == value
    assert found.get("lat_ref") == (ref if value != "GPSLatitude" else "GPSLatitudeRef")
    assert "lat_ref" not in roles("lat", "lon", "gps_lat", "gps_lon", "gps_lat_ref", lat="lat", lon="lon")


@pytest.mark.parametrize(
    "name", ["Longitude (W)", "lonW", "Longitude West", "lon_rad", "longitudeE7", "lon_3857", "lon (deg W)"]
)
def test_a_chosen_column_whose_name_contradicts_it_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="its name says"):
        roles("lat", name, lon=name)


@pytest.mark.parametrize(
    "parts",
    [
        ("lat_deg", "lat_min", "lat_sec", "lon_deg", "lon_min", "lon_sec"),
        ("lat_d", "lat_m", "lat_s", "lon_d", "lon_m", "lon_s"),
        ("LatDegrees", "LatMinutes", "LatSeconds", "LongDegrees", "LongMinutes", "LongSeconds"),
        ("lat", "latmin", "latsec", "lon", "lonmin", "lonsec"),
        ("Lat \u00b0", "Lat \u2032", "Lat \u2033", "Lon \u00b0", "Lon \u2032", "Lon \u2033"),
    ],
)
def test_degrees_minutes_and_seconds_in_columns_of_their_own(parts: tuple[str, ...]) -> None:
    found = roles(*parts)
    assert [found[f"{axis}{part}"] for axis in ("lat", "lon") for part in ("", "_min", "_sec")] == list(parts)


def test_minutes_belong_to_the_degrees_beside_them() -> None:
    found = find_columns(
        ("id", "latitude", "longitude", "lat_deg", "lat_min", "lon_deg", "lon_min"), {}, Path("t.csv"), "csv"
    )
    assert found.lat.min is None
    assert [(lat.value, lat.min, lon.min) for lat, lon in found.rivals] == [("lat_deg", "lat_min", "lon_min")]


def test_a_box_beside_the_coordinates_is_no_minutes() -> None:
    found = roles("lat", "lon", "lat_min", "lat_max", "lon_min", "lon_max")
    assert set(found) == {"id", "lat", "lon"}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("lat,lon,lat_min", "the column lat_min looks like minutes"),
        ("lat,lon,lat_sec,lon_sec", "the column lat_sec looks like a part of the latitude"),
        ("lat,lon,lat_sign", "the column lat_sign looks like a part of the latitude"),
        ("lat,lon_int,lon,lon_frac", "the column lon_int looks like a part of the longitude"),
        ("lat,lon,lat_ref,lat_dir", "several columns look like the ref of lat: lat_ref, lat_dir"),
        ("lat,gps_lat,true_lon,exif_lon", "no two names belong together"),
        ("lat,lon,exif_lat_ref,exif_lon_ref", "exif_lat_ref looks like the ref of another latitude than lat"),
        ("y,x", "columns.lat=<name>"),
    ],
)
def test_what_is_not_understood_beside_a_coordinate_is_named(header: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        roles(*header.split(","))
    assert said in str(error.value)
    assert "columns.l" in str(error.value)


def test_words_before_the_axis_mean_something_else() -> None:
    assert set(roles("lat", "lon", "min_lat", "min_lon")) == {"id", "lat", "lon"}
    assert roles("ref_lat", "ref_lon")["lat"] == "ref_lat"
    found = find_columns(("id", "lat", "lon", "ref_lat", "ref_lon"), {}, Path("t.csv"), "csv")
    assert [(lat.value, lon.value) for lat, lon in found.rivals] == [("ref_lat", "ref_lon")]


def test_naming_a_column_settles_what_stands_beside_it() -> None:
    assert roles("lat", "lon", "lat_sign", lat="lat")["lat"] == "lat"
    assert roles("y", "x", lat="y", lon="x")["lon"] == "x"


def test_pairs_of_one_origin_belong_together() -> None:
    found = find_columns(("id", "gt_long", "lat", "long", "gt_lat"), {}, Path("t.csv"), "csv")
    assert (found.lat.value, found.lon.value) == ("lat", "long")
    assert [(lat.value, lon.value) for lat, lon in found.rivals] == [("gt_lat", "gt_long")]
    assert roles("gt_long", "lat", "long", "gt_lat", lat="gt_lat")["lon"] == "gt_long"


@pytest.mark.parametrize("header", ["lat,gt_lat,gt_lon", "lat,latitude,lon", "lat,Lat,lon", "lat,lon,longitude"])
def test_a_second_coordinate_without_a_partner_is_refused(header: str) -> None:
    with pytest.raises(ConfigError, match="no two names belong together"):
        roles(*header.split(","))
    first, *_, last = header.split(",")
    assert roles(*header.split(","), lat=first, lon=last)["lat"] == first
