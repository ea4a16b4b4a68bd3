"""The words of Verger's SDK for workers in Python. Yours to read and to change.

Imports stand at the top of a file: one inside a function is not found at run time.
"""

import json
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple, Type, Union

from componentize_py_types import Err
from wit_world.imports import audit as _audit
from wit_world.imports import clock as _clock
from wit_world.imports import events as _events
from wit_world.imports import host as _host
from wit_world.imports import job as _job
from wit_world.imports import log as _log
from wit_world.imports import queue as _queue
from wit_world.imports import state as _state
from wit_world.imports import store as _store
from wit_world.imports import types as _types

Value = Union[None, int, float, str, bytes]
Row = Dict[str, Value]


class HostError(Exception):
    """A call that the host refused. `code` is one of those listed in wit/worker.wit at `error.code`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.words = message

    @property
    def concerns_one_row(self) -> bool:
        """Whether one row's own content was refused: a sweep counts it and goes on."""
        return self.code in ("constraint", "type", "row")


class Ending(Exception):
    """How a job may end beside returning. Return it or raise it: see failed, discard, snooze and cancel."""

    def __init__(self, outcome: Any) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def failed(message: str, code: str = "failed") -> Ending:
    """The attempt failed: what it wrote is undone, and it is tried again. As an exception does."""
    return Ending(_types.Outcome_Failed(_types.Error(code, message)))


def discard(message: str, code: str = "failed") -> Ending:
    """As failed, and not tried again."""
    return Ending(_types.Outcome_Discard(_types.Error(code, message)))


def snooze(seconds: int) -> Ending:
    """Again after so many seconds; what was written stays."""
    return Ending(_types.Outcome_Snooze(seconds))


def cancel(reason: str) -> Ending:
    """Ends the job; what was written stays."""
    return Ending(_types.Outcome_Cancel(reason))


@contextmanager
def _calls() -> Iterator[None]:
    try:
        yield
    except Err as error:
        value: Any = error.value
        raise HostError(value.code, value.message) from None


def _to_value(value: Any) -> Any:
    if value is None:
        return _types.Value_Null()
    if isinstance(value, bool):
        return _types.Value_Integer(int(value))
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise OverflowError(f"{value} has more than the 64 bits of an INTEGER")
        return _types.Value_Integer(value)
    if isinstance(value, float):
        return _types.Value_Real(value)
    if isinstance(value, str):
        return _types.Value_Text(value)
    if isinstance(value, (bytes, bytearray)):
        return _types.Value_Blob(bytes(value))
    raise TypeError(f"{type(value).__name__} is no value that SQLite has")


def _from_value(value: Any) -> Value:
    return None if isinstance(value, _types.Value_Null) else value.value


def _to_values(params: Sequence[Any]) -> List[Any]:
    return [_to_value(param) for param in params]


def _to_row(columns: Sequence[str], values: Sequence[Any]) -> Row:
    return {column: _from_value(value) for column, value in zip(columns, values)}


def all(sql: str, *params: Value) -> List[Row]:
    """All rows of a query, as far as one chunk (16 MiB) goes."""
    with _calls():
        table = _store.query_all(sql, _to_values(params))
    return [_to_row(table.columns, values) for values in table.rows]


def one(sql: str, *params: Value) -> Optional[Row]:
    """The first row of a query, or None."""
    for row in rows(sql, *params):
        return row
    return None


def rows(sql: str, *params: Value) -> Iterator[Row]:
    """The rows of a query, read a few hundred at a time. A checkpoint closes it: page by a key."""
    with _calls():
        cursor = _store.query(sql, _to_values(params))
    columns = cursor.columns()
    while True:
        with _calls():
            chunk = cursor.next(256)
        if not chunk:
            return
        for values in chunk:
            yield _to_row(columns, values)


def execute(sql: str, *params: Value) -> int:
    """Runs one statement; the number of rows it changed."""
    with _calls():
        return _store.execute(sql, _to_values(params))


@contextmanager
def savepoint() -> Iterator[None]:
    """The block is done whole or not at all: what it wrote is undone when it raises."""
    with _calls():
        point = _store.begin_savepoint()
    try:
        yield
    except BaseException:
        try:
            point.rollback()
        except Err:
            pass  # closed with the transaction: nothing is left to undo
        raise
    with _calls():
        point.release()


def checkpoint() -> None:
    """Commits what was done so far and lets others write."""
    with _calls():
        _store.checkpoint()


def checkpoint_due() -> bool:
    """Whether others wait for a checkpoint."""
    return _store.checkpoint_due()


def audit(
    action: str,
    outcome: str = "success",
    organization: Optional[str] = None,
    subject: Optional[Tuple[str, Any]] = None,
    before: Any = None,
    after: Any = None,
    metadata: Optional[Dict[str, Any]] = None,
) -> int:
    """Writes to the audit log; the row's id."""

    def text(value: Any) -> Optional[str]:
        return None if value is None else json.dumps(value)

    kind, number = (None, None) if subject is None else (subject[0], str(subject[1]))
    event = _audit.Event(
        action, _audit.EventOutcome[outcome.upper()], organization, kind, number, text(before), text(after), text(metadata)
    )
    with _calls():
        return _audit.append([event])[0]


def publish(topic: str, payload: Any) -> None:
    """Tells the app, once this is committed."""
    with _calls():
        _events.publish(topic, json.dumps(payload))


def call(name: str, request: Any) -> Any:
    """Calls a function of the app."""
    with _calls():
        return json.loads(_host.call(name, json.dumps(request)))


def enqueue(worker: str, args: Optional[Dict[str, Any]] = None, **options: Any) -> Tuple[int, bool]:
    """Enqueues a job in this transaction: its id, and whether one like it was there already."""
    return enqueue_all([(worker, args or {}, options)])[0]


def enqueue_all(jobs: Sequence[Tuple[str, Dict[str, Any], Dict[str, Any]]]) -> List[Tuple[int, bool]]:
    """Enqueues many, all or none: (worker, args, options) each."""
    asked = [_queue.NewJob(worker, json.dumps(args), json.dumps(options)) for worker, args, options in jobs]
    with _calls():
        return [(job.id, job.existing) for job in _queue.enqueue(asked)]


def get_state(key: str) -> Value:
    """What was kept under a key, or None."""
    with _calls():
        return _from_value(_state.get(key))


def set_state(key: str, value: Value) -> None:
    """Keeps a small value for later jobs; None forgets it."""
    with _calls():
        _state.set(key, _to_value(value))


def progress(done: int, total: int = 0) -> None:
    """How far the work is; total 0 means unknown."""
    _job.progress(done, total)


def is_cancelled() -> bool:
    """Whether someone asked the job to stop."""
    return _job.is_cancelled()


def now() -> int:
    """Now, in unix milliseconds, by the host's clock."""
    return _clock.now()


def job() -> Any:
    """The interface of the job: id(), attempt(), max_attempts(), deadline(), scheduled()."""
    return _job


def log(message: str, level: str = "info") -> None:
    """A line for the app's log: trace, debug, info, warn or error."""
    _log.write(_log.Level[level.upper()], message)


def arg(args: Dict[str, Any], key: str, kind: Type[Any]) -> Any:
    """An arg that must be there. Without it, or of another type, the job is discarded with the key's name."""
    if key not in args:
        raise discard(f"the arg `{key}` is missing", "args")
    value = args[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise discard(f"the arg `{key}` must be {kind.__name__}, not {json.dumps(value)}", "args")
    return value


def _describe(error: BaseException) -> str:
    # The module traceback looks for source files, which a worker cannot.
    lines = [f"{type(error).__name__}: {error}"]
    frame = error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        lines.append(f"  {code.co_filename}, line {frame.tb_lineno}, in {code.co_name}")
        frame = frame.tb_next
    return "\n".join(lines)


def run(work: Callable[[Dict[str, Any], Any], Any], scope: Any, args: str) -> Any:
    """What `perform` returns: the worker's own, or how it failed, with text and lines."""
    try:
        ended = work(json.loads(args), scope)
        if isinstance(ended, Ending):
            return ended.outcome
        if ended is None:
            return _types.Outcome_Done()
        return _types.Outcome_DoneWith(json.dumps(ended))
    except Ending as ending:
        return ending.outcome
    except HostError as error:
        return _types.Outcome_Failed(_types.Error(error.code, _describe(error)))
    except Exception as error:
        return _types.Outcome_Failed(_types.Error("exception", _describe(error)))
