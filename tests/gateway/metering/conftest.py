"""The ledgers of the ledger's own tests."""

from tests.gateway.ledger.conftest import clock, ledger, postgresql, postgresql_url, sqlite_url, url

__all__ = ["clock", "ledger", "postgresql", "postgresql_url", "sqlite_url", "url"]
