"""The tests' hub answers the unmodified client as the public one does."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RepositoryNotFoundError

from tests.models.hub import COMMIT, Hub

REPOSITORY = "lllyasviel/misc"


@pytest.fixture
def api(hub: Hub, environment: dict[str, str]) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


def test_it_tells_what_a_repository_has(api: HfApi, hub: Hub) -> None:
    told = api.model_info(REPOSITORY)
    assert told.sha == COMMIT
    assert {file.rfilename for file in told.siblings or ()} == set(hub.files[REPOSITORY])
    sizes = {file.path: file.size for file in api.list_repo_tree(REPOSITORY) if hasattr(file, "size")}
    assert sizes == {path: len(content) for path, content in hub.files[REPOSITORY].items()}


def test_the_clients_own_download_brings_a_file(hub: Hub, environment: dict[str, str], tmp_path: Path) -> None:
    name = "fooocus_ip_negative.safetensors"
    found = hf_hub_download(REPOSITORY, name, local_dir=tmp_path / "here", endpoint=hub.endpoint, token=False)
    assert Path(found).read_bytes() == hub.files[REPOSITORY][name]


def test_it_refuses_in_the_hubs_words(api: HfApi, hub: Hub) -> None:
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(REPOSITORY, "nothing.safetensors")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("no/body")
    hub.gated.add(REPOSITORY)
    with pytest.raises(GatedRepoError):
        api.model_info(REPOSITORY)
