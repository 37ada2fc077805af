"""Names of images: which of them name a file, and what is said of a file that is missing."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geotune.errors import BadRecord
from geotune.system.image_names import NOT_A_FILE, file_name, missing_image
from geotune.system.images import resolve_image

unhurried = settings(deadline=None)
ADDRESSES = [
    *(
        "https://x.org/a.jpg",
        "http://x.org/a.jpg?w=1",
        "HTTPS://x.org/a.jpg",
        "ftp://x.org/a.jpg",
        "https:/x.org/a.jpg",
    ),
    *("s3://b/a.jpg", "gs://b/a.jpg", "hf://datasets/x/a.jpg", "az://b/a.jpg", "zip://a.jpg::/b.zip"),
    *("file://photos/a.jpg", "file://server/share/a.jpg", "data:image/png;base64,iVBORw0KGgo=", "data:,"),
    *("Qk0" + "AbC+/" * 200, "AAAAIGZ0eXBhdmlm" + "A-_" * 200 + "=", "x" * 5000),
    *("/9j/" + "AbC+/" * 60, "iVBORw0KGgo" + "A" * 300 + "==", "UklGR" + "ab\n" * 100),
]


@pytest.mark.parametrize("name", ADDRESSES)
def test_what_names_no_file_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(BadRecord, match=r"download it|write it to a file|write file:///<absolute path>") as error:
        file_name(name)
    assert error.value.code == NOT_A_FILE
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a.jpg",
            "images/a, (1) = b.jpg",
            "/data/a.jpg",
            "../a.jpg",
            "C:/photos/a.jpg",
            "C:\\photos\\a.jpg",
            "a:b.jpg",
        ),
        *("12:30/a.jpg", "filed/a.jpg", "https", "data/a.jpg", "database:1.jpg", "x" * 400 + ".jpg", "a" * 100),
    ],
)
def test_names_of_files_stay_as_they_are(name: str) -> None:
    assert file_name(name) == name


@pytest.mark.parametrize("name", ["a." * 4000, "a\nb\x1b[2J.jpg", "a/" * 3000 + "b.jpg", "\u202egpj.a"])
def test_messages_stay_short_and_in_one_line(tmp_path: Path, name: str) -> None:
    error = missing_image(tmp_path / name).at("data.jsonl:1", name)
    assert len(str(error)) < 2000
    assert not {"\n", "\x1b", "\u202e"} & set(str(error))
    assert "is missing" in str(error)


@pytest.mark.parametrize("start", ["file://", "FILE://", "file://localhost", "file:"])
@unhurried
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_an_address_of_a_file_is_its_path(start: str, name: str) -> None:
    assume(name.strip("/"))
    path = "/" + name.lstrip("/")
    assert file_name(start + quote(path)) == path


def said_of(path: Path) -> str:
    error = missing_image(path)
    assert error.code == "missing_image"
    return error.reason


def test_a_missing_image_says_what_lies_there_instead(tmp_path: Path) -> None:
    for name in ("0000012.png", "input0000007.jpg", "7.JPG", "9.jpg", "beach.jpeg", ".hidden.jpg"):
        (tmp_path / name).touch()
    for name, found in (
        ("0000007.jpg", "7.JPG, input0000007.jpg"),
        ("12.jpg", "0000012.png"),
        ("beach.jpg", "beach.jpeg"),
        ("Beach.jpg.jpg", "beach.jpeg"),
        ("other.jpg", "0000012.png, 7.JPG, 9.jpg and 2 more"),
    ):
        assert said_of(tmp_path / name) == f"image {tmp_path / name} is missing: its folder holds {found}"
    assert said_of(tmp_path / "pan/os/1.jpg").endswith(
        f"is missing: there is no folder {tmp_path / 'pan'}, and {tmp_path} holds 0000012.png, 7.JPG, 9.jpg and 2 more"
    )
    (tmp_path / "other.png").touch()
    assert said_of(tmp_path / "other.jpg").endswith("its folder holds other.png"), "the folder is read again"
    (tmp_path / "empty").mkdir()
    assert said_of(tmp_path / "empty" / "a.jpg").endswith("its folder holds nothing")
    assert said_of(tmp_path / "empty").endswith("is not a file")
    assert said_of(tmp_path / ("x" * 400)).endswith("is missing (File name too long)")


@pytest.mark.parametrize(("on_disk", "asked"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_name_in_another_unicode_form_finds_the_file(tmp_path: Path, on_disk: str, asked: str) -> None:
    name = "Café/Zürich ñ.jpg"
    file = tmp_path / unicodedata.normalize(on_disk, name)
    file.parent.mkdir()
    file.write_bytes(b"x")
    named = unicodedata.normalize(asked, name)
    assert resolve_image(tmp_path, named) == file
    assert resolve_image("elsewhere", str(tmp_path / named)) == file
    mixed = f"{unicodedata.normalize('NFC', 'Café')}/{unicodedata.normalize('NFD', 'Zürich ñ.jpg')}"
    assert resolve_image(tmp_path, mixed) == file
    # Both forms exist: each name finds its own.
    other = tmp_path / unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[on_disk], name)
    other.parent.mkdir()
    other.write_bytes(b"y")
    assert resolve_image(tmp_path, str(file.relative_to(tmp_path))) == file
    assert resolve_image(tmp_path, str(other.relative_to(tmp_path))) == other


def test_names_that_are_not_there_stay_as_they_are(tmp_path: Path) -> None:
    for name in ("é.jpg", "é/ü.jpg", "\udce9.jpg"):
        assert resolve_image(tmp_path, name) == tmp_path / name
    (tmp_path / "\udce9.jpg").write_bytes(b"x")  # a file's name in Latin-1, as Python spells it
    assert resolve_image(tmp_path, "\udce9.jpg").read_bytes() == b"x"
