"""What is left of a client's name and type: a suffix of ours, a harmless name for a download."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.files.names import MAX_NAME, clean_name, disposition, suffix_of
from gateway.files.store import UPLOAD_SUFFIXES


@pytest.mark.parametrize(
    ("content_type", "name", "suffix"),
    [
        ("image/png", "", "png"),
        ("image/jpeg; x=y", "photo", "jpeg"),
        ("image/jpg", "photo.JPG", "jpeg"),
        ("application/octet-stream", "style.safetensors", "safetensors"),
        ("text/plain", "a", "txt"),
        ("text/html", "page.html", "bin"),
        ("image/svg+xml", "x.svg", "bin"),
        ("", "", "bin"),
        ("../../png", "x/../y", "png"),
    ],
)
def test_a_suffix_is_one_of_ours(content_type: str, name: str, suffix: str) -> None:
    assert suffix_of(content_type, name) == suffix


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_a_client_says_the_names_are_harmless(content_type: str, name: str) -> None:
    assert suffix_of(content_type, name) in UPLOAD_SUFFIXES
    clean = clean_name(name)
    if clean is not None:
        assert 0 < len(clean) <= MAX_NAME
        assert not set(clean) & set('/\\"<>\r\n\0')
        header = disposition("attachment", clean)
        assert header.isascii()
        assert header.isprintable()
        assert header.count('"') == 2


def test_a_name_beyond_ascii_is_told_in_both_ways() -> None:
    assert disposition("inline", "Größe.png") == "inline; filename=\"Gr??e.png\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.png"
