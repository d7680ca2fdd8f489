"""Types of image prompts that are hints of where things are, and what the spec calls them (fooocus-facts 5.4, 5.5)."""

from collections.abc import Mapping
from types import MappingProxyType

from pipelines.spec import ControlKind

HINTS: Mapping[str, ControlKind] = MappingProxyType({"PyraCanny": "canny", "CPDS": "cpds"})
