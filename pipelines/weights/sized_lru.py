"""A cache of what was used lately, within a budget of bytes; memory that several values share is counted once."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SizedLru(Generic[Key, Value]):
    """May be used by any thread. What falls out is only let go of: whoever still uses it keeps it alive. Values can be
    referred to weakly."""

    def __init__(self, budget_bytes: int) -> None:
        self.resident_bytes = 0
        self._budget_bytes = budget_bytes
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._parts: dict[Key, Mapping[int, int]] = {}  # of those that are counted
        self._alive: WeakValueDictionary[Key, Value] = WeakValueDictionary()  # with those that fell out
        self._sizes: WeakKeyDictionary[Value, Mapping[int, int]] = WeakKeyDictionary()
        self._owners: Counter[int] = Counter()
        self._lock = threading.Lock()  # held for moments only

    def __iter__(self) -> Iterator[Key]:
        """The keys, the one used last at the end."""
        with self._lock:
            return iter(tuple(self._values))

    def find(self, key: Key) -> Value | None:
        """The value, now the one used last; None when it is not here."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def recall(self, key: Key) -> Value | None:
        """Likewise, and also what fell out as long as somebody still uses it: it is kept again, and counted."""
        value = self.find(key)
        if value is not None:
            return value
        with self._lock:
            value = self._alive.get(key)
            if value is not None and key not in self._values:
                self._add(key, value, self._sizes[value])
            return value

    def put(self, key: Key, value: Value, parts: Mapping[int, int]) -> None:
        """Keep a value as the one used last, in place of what had its key, and let the oldest go to make room.

        parts: the bytes of everything that it holds, by an identity that is stable while the value is kept. The last
        value stays even when it alone is larger than the budget.
        """
        with self._lock:
            if key in self._values:
                self._drop(key)
            self._alive[key], self._sizes[value] = value, parts
            self._add(key, value, parts)

    def _add(self, key: Key, value: Value, parts: Mapping[int, int]) -> None:
        self._values[key] = value
        self._parts[key] = parts
        for part, size in parts.items():
            self.resident_bytes += 0 if self._owners[part] else size
            self._owners[part] += 1
        while self.resident_bytes > self._budget_bytes and len(self._values) > 1:
            self._drop(next(iter(self._values)))

    def _drop(self, key: Key) -> None:
        del self._values[key]
        for part, size in self._parts.pop(key).items():
            self._owners[part] -= 1
            if not self._owners[part]:
                del self._owners[part]
                self.resident_bytes -= size
