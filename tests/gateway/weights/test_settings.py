"""What is set about weights, checked at the start."""

import pytest
from pydantic import ValidationError

from gateway.weights.settings import WeightsSettings


@pytest.mark.parametrize("origin", ["https://hub.example", "http://localhost:8080", "https://hub.example:80"])
def test_an_origin_is_named_as_addresses_are_compared(origin: str) -> None:
    assert WeightsSettings.model_validate({"tokens": {origin: "env:A"}}).tokens == {origin: "env:A"}


@pytest.mark.parametrize(
    "origin",
    ["https://hub.example:443", "http://hub.example:80", "https://Hub.example", "https://hub.example/", "hub.example"],
)
def test_one_to_which_its_token_would_never_be_sent_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        WeightsSettings.model_validate({"tokens": {origin: "env:A"}})
