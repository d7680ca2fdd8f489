"""The Python client pointed at the service by its module constants (they are read at call time)."""

import pytest
from fal_client import client


def point(base: str, patch: pytest.MonkeyPatch) -> None:
    """Send every kind of call of `fal_client` to the service at `base` until the patch is undone."""
    patch.setenv("FAL_KEY", "any:key")
    patch.setattr(client, "RUN_URL_FORMAT", f"{base}/run/")
    patch.setattr(client, "QUEUE_URL_FORMAT", f"{base}/queue/")
    patch.setattr(client, "REALTIME_URL_FORMAT", f"{base}/run/".replace("http", "ws", 1))
    patch.setattr(client, "REST_URL", f"{base}/rest")
    patch.setattr(client, "CDN_URL", f"{base}/cdn")
