"""The metric that says which stores are there."""

from ray.serve.metrics import Gauge


class StoreGauge:
    """What `gateway.store_watch.StoreWatch` tells, as a metric of this replica."""

    def __init__(self) -> None:
        self._gauge = Gauge("fooocus_store_up", "1 while a store can be reached and written, else 0.", ("store",))

    def set(self, store: str, up: bool) -> None:
        self._gauge.set(float(up), {"store": store})
