"""Names of produced pictures: a secret makes them, and only settings or the data folder know it."""

import pickle
from functools import partial
from hashlib import blake2b
from pathlib import Path

from pydantic import SecretStr

from gateway.files.names import OutputNames
from gateway.files.store import is_key
from gateway.keys.tokens import FILE, derived
from gateway.settings import GatewaySettings

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
SECRET = b"s" * 32


def test_a_name_is_a_key_and_the_same_every_time() -> None:
    names = OutputNames(SECRET)
    keys = [names.key(ID, number, "png") for number in range(3)]
    assert keys == [OutputNames(SECRET).key(ID, number, "png") for number in range(3)]
    assert all(map(is_key, keys))
    assert len(set(keys)) == 3


def test_a_name_follows_from_nothing_public() -> None:
    public = {blake2b(f"{ID}/0".encode(), digest_size=16).hexdigest()}  # as names were made before
    public |= {key.hex()[:32] for key in (derived(b"", "names of outputs"), derived(ID.encode(), "names of outputs"))}
    names = {OutputNames(secret).key(ID, 0, "png") for secret in (SECRET, b"t" * 32)}
    assert len(names) == 2
    assert not {Path(name).stem for name in names} & public


def test_machines_with_one_secret_make_one_name(tmp_path: Path) -> None:
    one, other = (
        GatewaySettings(data_dir=tmp_path / name, token_secret=SecretStr("s" * 32)) for name in ("one", "other")
    )
    assert OutputNames.of(one).key(ID, 0, "png") == OutputNames.of(other).key(ID, 0, "png")
    assert list(tmp_path.iterdir()) == []


def test_a_machine_on_its_own_makes_its_secret_once(tmp_path: Path) -> None:
    settings, other = GatewaySettings(data_dir=tmp_path), GatewaySettings(data_dir=tmp_path / "other")
    name = OutputNames.of(settings).key(ID, 0, "png")
    assert name == OutputNames.of(settings).key(ID, 0, "png") != OutputNames.of(other).key(ID, 0, "png")
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_what_a_deployment_is_given_does_not_show_the_secret(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, token_secret=SecretStr("geheim" * 8))
    given = partial(OutputNames.of, settings)
    assert "geheim" not in repr(given)
    assert pickle.loads(pickle.dumps(given))().key(ID, 0, "png") == OutputNames.of(settings).key(ID, 0, "png")  # noqa: S301 (our own)


def test_purposes_have_keys_of_their_own() -> None:
    assert derived(SECRET, "one") != derived(SECRET, "other")
