"""Which addresses are of our own files, and who may draw over one."""

from pathlib import Path

import pytest

from gateway.errors import ModelError
from gateway.files.backends import LocalFiles
from gateway.files.base import FileTerms
from gateway.keys.base import Caller, Scope
from gateway.picture_sources import LocalFileResolver
from gateway.policy import Acl

KEY = "uploads/0f8fad5b-d9cb-469f-a165-70867728950e/file.png"
OUTPUT = "outputs/0f8fad5b-d9cb-469f-a165-70867728950e/0.png"
ORIGINS = ("127.0.0.1:8000", "pictures.example:443", "v3.fal.media")


def own(folder: Path, key: str = "owner", *scopes: Scope) -> LocalFileResolver:
    return LocalFileResolver(LocalFiles(folder), Caller(key, frozenset(scopes)), "key", ORIGINS)


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:8000/cdn/files/{KEY}",
        f"http://127.0.0.1:8000/files/{KEY}",
        f"http://localhost:8000/files/{KEY}",
        f"http://[::1]:8000/files/{KEY}",
        f"https://pictures.example/files/{KEY}",
        f"HTTPS://Pictures.Example:443/files/{KEY}?x=y#z",
        f"https://v3.fal.media/files/{KEY}",
        f"http://v3.fal.media:8443/files/{KEY}",
    ],
)
def test_an_address_of_ours_is_known(tmp_path: Path, url: str) -> None:
    assert own(tmp_path).key_of(url) == KEY


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:9000/files/{KEY}",
        f"http://127.0.0.1/files/{KEY}",
        f"https://other.example/files/{KEY}",
        f"https://pictures.example.other/files/{KEY}",
        f"https://pictures.example@other.example/files/{KEY}",
        f"https://user@pictures.example/files/{KEY}",
        f"https://pictures.example:8443/files/{KEY}",
        f"https://pictures.example:x/files/{KEY}",
        f"https://pictures.example/{KEY}",
        f"https://pictures.example/cdn/{KEY}",
        f"https://pictures.example/files/files/{KEY}",
        f"https://pictures.example/files/../files/{KEY}",
        f"https://pictures.example/files/{KEY.replace('uploads', 'inputs')}",
        f"https://pictures.example/files/{KEY}/",
        "https://pictures.example/files/uploads/../../etc/passwd",
        "https://v3.fal.media/files/panda/abc_cat.png",
        f"ftp://pictures.example/files/{KEY}",
        "data:image/png;base64,xx",
        "",
    ],
)
def test_any_other_is_not(tmp_path: Path, url: str) -> None:
    assert own(tmp_path).key_of(url) is None


async def test_the_owner_and_an_administrator_read_it(tmp_path: Path) -> None:
    await LocalFiles(tmp_path).put(KEY, b"picture", "image/png", FileTerms("owner"))
    assert await own(tmp_path).read(KEY, 100, "image_url") == b"picture"
    assert await own(tmp_path, "other", Scope.ADMIN).read(KEY, 100, "image_url") == b"picture"


async def test_others_hear_what_they_hear_of_a_missing_file(tmp_path: Path) -> None:
    await LocalFiles(tmp_path).put(KEY, b"picture", "image/png", FileTerms("owner"))
    await LocalFiles(tmp_path).put(OUTPUT, b"picture", "image/png", FileTerms("owner", Acl(default="forbid")))
    heard = []
    for key in (KEY, OUTPUT, KEY.replace("0f", "1f")):
        with pytest.raises(ModelError) as caught:
            await own(tmp_path, "other").read(key, 100, "image_url")
        heard.append(caught.value.body())
    assert heard[0]["detail"][0]["loc"] == ["body", "image_url"]
    assert heard[0]["detail"][0]["type"] == "file_download_error"
    assert heard[0] == heard[1] == heard[2]


async def test_a_file_above_the_cap_is_not_read(tmp_path: Path) -> None:
    await LocalFiles(tmp_path).put(KEY, b"picture", "image/png", FileTerms("owner"))
    with pytest.raises(ModelError) as caught:
        await own(tmp_path).read(KEY, 6, "image_url")
    assert (caught.value.type, caught.value.ctx) == ("file_too_large", {"max_size": 6})
