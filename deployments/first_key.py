"""The first API key of a service that others can reach: made when there is none, and shown once."""

from gateway.keys.base import Scope
from gateway.keys.limits import KeyLimits
from gateway.keys.sql import SqlKeys
from gateway.settings import GatewaySettings

NAME = "first"


async def first_key(settings: GatewaySettings) -> str | None:
    """The credentials of a new key, which nothing keeps in clear; None where the service has ever had one."""
    keys = await SqlKeys.open(settings.ledger_address)
    try:
        if await keys.all():
            return None
        return (await keys.create(NAME, [Scope.RUN, Scope.STORAGE], KeyLimits())).credentials
    finally:
        await keys.close()
