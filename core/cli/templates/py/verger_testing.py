"""A host for tests: SQLite in memory, no app, no component. Needs `componentize-py … bindings types`."""

import json
import re
import sqlite3
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).parent / "types"))

from componentize_py_types import Err
from wit_world.imports import audit, clock, events, host, job, log, queue, state, store, types


def _fail(code: str, message: object) -> Err:
    return Err(types.Error(code, str(message)))


class World:
    """A database, and what the worker did beside it."""

    def __init__(self, setup: str, now: int = 1_767_225_600_000) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.executescript(setup)
        self.audited: List[audit.Event] = []
        self.published: List[Tuple[str, Any]] = []
        self.enqueued: List[queue.NewJob] = []
        self.kept: Dict[str, Any] = {}
        self.lines: List[Tuple[str, str]] = []
        self.points = 0
        store.query_all, store.query, store.execute = self.query_all, lambda *asked: Cursor(self.query_all(*asked)), self.execute
        store.begin_savepoint, store.checkpoint, store.checkpoint_due = lambda: Savepoint(self), self.checkpoint, lambda: False
        audit.append = self.append
        clock.now = lambda: now
        events.publish = lambda topic, payload: self.published.append((topic, json.loads(payload)))
        host.call = self.refuse
        log.write = lambda level, line: self.lines.append((level.name.lower(), line))
        queue.enqueue = self.enqueue
        state.get = lambda key: self.kept.get(key, types.Value_Null())
        state.set = self.kept.__setitem__
        job.progress, job.is_cancelled, job.id, job.attempt = lambda done, total: None, lambda: False, lambda: 1, lambda: 1

    def perform(self, worker: Any, args: Dict[str, Any], scope: Optional[types.Scope] = None) -> Any:
        """Performs as the host does: in one transaction, undone when it fails. The outcome."""
        manifest = json.loads(worker.describe())
        defaults = {key: spec["default"] for key, spec in manifest.get("args", {}).items() if "default" in spec}
        self.db.execute("BEGIN")
        ended = worker.perform(scope, json.dumps({**defaults, **args}))
        undone = isinstance(ended, (types.Outcome_Failed, types.Outcome_Discard))
        self.db.execute("ROLLBACK" if undone else "COMMIT")
        return ended

    def look(self, sql: str) -> List[Tuple[Any, ...]]:
        """The rows of a query, for assertions."""
        return self.db.execute(sql).fetchall()

    def step(self, sql: str, params: Sequence[Any]) -> sqlite3.Cursor:
        # In order of their numbers: sqlite3 takes `?1` from a sequence by its place.
        values = [getattr(param, "value", None) for param in params]
        try:
            return self.db.execute(sql, values)
        except sqlite3.IntegrityError as error:
            raise _fail("constraint", error) from None
        except sqlite3.OperationalError as error:
            bad = re.match(r"no such|near |incomplete", str(error))
            raise _fail("sql" if bad else "row", error) from None

    def query_all(self, sql: str, params: Sequence[Any]) -> Any:
        cursor = self.step(sql, params)
        kinds = {int: types.Value_Integer, float: types.Value_Real, str: types.Value_Text, bytes: types.Value_Blob}
        rows = [[types.Value_Null() if cell is None else kinds[type(cell)](cell) for cell in row] for row in cursor]
        return store.Table([column[0] for column in cursor.description or []], rows)

    def execute(self, sql: str, params: Sequence[Any]) -> int:
        return max(self.step(sql, params).rowcount, 0)

    def checkpoint(self) -> None:
        self.db.execute("COMMIT")
        self.db.execute("BEGIN")

    def append(self, added: List[audit.Event]) -> List[int]:
        self.audited.extend(added)
        return list(range(len(self.audited) - len(added) + 1, len(self.audited) + 1))

    def enqueue(self, jobs: List[queue.NewJob]) -> List[queue.Enqueued]:
        self.enqueued.extend(jobs)
        return [queue.Enqueued(len(self.enqueued) - at, False) for at in range(len(jobs))]

    def refuse(self, capability: str, request: str) -> str:
        raise _fail("denied", f"capability {capability} is not granted")


class Cursor:
    def __init__(self, table: Any) -> None:
        self.table = table

    def columns(self) -> List[str]:
        return self.table.columns

    def next(self, most: int) -> List[Any]:
        chunk, self.table.rows = self.table.rows[:most], self.table.rows[most:]
        return chunk


class Savepoint:
    def __init__(self, world: World) -> None:
        world.points += 1
        self.world, self.name, self.audited = world, f"point_{world.points}", len(world.audited)
        world.db.execute(f"SAVEPOINT {self.name}")

    def release(self) -> None:
        self.world.db.execute(f"RELEASE {self.name}")

    def rollback(self) -> None:
        self.world.db.execute(f"ROLLBACK TO {self.name}")
        self.world.db.execute(f"RELEASE {self.name}")
        del self.world.audited[self.audited:]
