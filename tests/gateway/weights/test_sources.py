"""What words for weights mean."""

import pytest

from gateway.weights.sources import Address, Repository, Source, Upload, host_of, source_of, stored, unknown

HUB = "https://huggingface.co"
FILE = f"{HUB}/owner/repo/resolve/main/styles/ink.safetensors"


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("https://else.example/a.safetensors?token=x#y", Address("https://else.example/a.safetensors?token=x")),
        ("HTTPS://else.example/a", Address("https://else.example/a")),
        ("owner/repo/styles/ink.safetensors", Address(FILE)),
        ("owner/repo/ink style.safetensors", Address(f"{HUB}/owner/repo/resolve/main/ink%20style.safetensors")),
        (FILE.replace("resolve", "blob"), Address(FILE)),
        (
            f"{HUB}/owner/repo/blob/v1.0/a/blob/b.safetensors",
            Address(f"{HUB}/owner/repo/resolve/v1.0/a/blob/b.safetensors"),
        ),
        (f"{HUB}/owner/repo", Repository("owner/repo")),
        (f"{HUB}/owner/repo/tree/main/", Repository("owner/repo")),
        ("owner/repo", Repository("owner/repo")),
        ("https://civitai.com/api/download/models/128", Address("https://civitai.com/api/download/models/128")),
        (
            "https://civitai.com/models/7/ink?modelVersionId=128&token=x",
            Address("https://civitai.com/api/download/models/128?token=x"),
        ),
        ("https://civitai.com/models/7", Address("https://civitai.com/models/7")),
        (stored("uploads/1/a.safetensors", "e"), Upload("uploads/1/a.safetensors", "e")),
    ],
)
def test_a_word_means(word: str, source: Source) -> None:
    assert source_of(word, HUB) == source


def test_another_hub_has_names_and_pages_of_its_own() -> None:
    mirror = "http://hub.example:8080"
    assert source_of("owner/repo/a.safetensors", mirror) == Address(f"{mirror}/owner/repo/resolve/main/a.safetensors")
    assert source_of(f"{mirror}/owner/repo", mirror) == Repository("owner/repo")
    assert source_of(FILE.replace("resolve", "blob"), mirror) == Address(FILE)
    assert source_of(f"{HUB}/owner/repo", mirror) == Address(f"{HUB}/owner/repo")


@pytest.mark.parametrize(
    "word",
    [
        *("", "/", "/etc/passwd", "../a", "a/../b", "owner/repo/../x.safetensors", "owner/repo/", "a\\b", "a\x00b"),
        *("ftp://x.example/a", "file:///etc/passwd", "owner/repo/folder", "ink", "-a/b", "http://[", "https://[::/a"),
    ],
)
def test_what_means_nothing_is_told_with_what_would(word: str) -> None:
    assert source_of(word, HUB) is None
    why = unknown(word, "embedding", HUB)
    assert why is not None
    assert "owner/repo" in why


def test_a_key_is_not_a_clients_to_name_and_a_repository_is() -> None:
    assert unknown(stored("uploads/1/a.safetensors", "e"), "LoRA", HUB)
    assert unknown("owner/repo", "LoRA", HUB) is None


def test_of_an_address_its_host_alone_is_shown() -> None:
    assert host_of("https://user:word@else.example:8443/secret?token=x") == "else.example"
