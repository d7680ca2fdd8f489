"""The six endpoints by id."""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.endpoints.base import Endpoint, Order, app_of
from gateway.endpoints.fast_sdxl import FAST_SDXL, FAST_SDXL_IMAGE_TO_IMAGE
from gateway.endpoints.fooocus import FOOOCUS, IMAGE_PROMPT, INPAINT, UPSCALE_OR_VARY

__all__ = ["ENDPOINTS", "Endpoint", "Order", "app_of"]

ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType(
    {
        endpoint.id: endpoint
        for endpoint in (FOOOCUS, IMAGE_PROMPT, INPAINT, UPSCALE_OR_VARY, FAST_SDXL, FAST_SDXL_IMAGE_TO_IMAGE)
    }
)
