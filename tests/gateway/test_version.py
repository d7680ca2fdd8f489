"""Which version runs is known by the package that was installed."""

import pytest

from gateway import version


def test_a_service_that_runs_from_its_folder_alone_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version.own_version()
    monkeypatch.setattr(version, "PACKAGE", "not-installed")
    assert version.own_version() is None
