"""An ingress that only holds the stages, so that Serve deploys them."""

from typing import Any


class Root:
    def __init__(self, stages: Any) -> None:
        self.stages = stages
