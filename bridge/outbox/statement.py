"""Statements that SQLAlchemy compiles once for each dialect, and the driver's cursor executes.

On SQLite the driver needs 2 µs for a short statement, SQLAlchemy 30 µs. On PostgreSQL most of the time is the
round trip, so that `ForRows` makes one of many rows.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import orjson
from sqlalchemy import (
    ARRAY,
    Boolean,
    ClauseElement,
    Column,
    ColumnElement,
    Connection,
    Table,
    Text,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.type_api import TypeEngine

#: The given values of a row, by name: parameters on SQLite, columns of the table of all rows on PostgreSQL.
Given: TypeAlias = Mapping[str, Any]

_INSERT: dict[str, Callable[[Table], Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


class Statement:
    """A statement with named parameters. `clause` may be a function of the dialect's name."""

    def __init__(self, clause: ClauseElement | Callable[[str], ClauseElement]) -> None:
        self._clause = clause
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Execute it and return its rows, each with an attribute for each column."""
        compiled = self._for(connection)
        cursor = compiled.execute(connection, parameters)
        return compiled.rows_of(cursor)

    def first(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        """Execute it and return its first row, or None."""
        rows = self.rows(connection, parameters)
        return rows[0] if rows else None

    def count(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """Execute it and return how many rows it changed."""
        count: int = self._for(connection).execute(connection, parameters).rowcount
        return count

    def _for(self, connection: Connection) -> _Compiled:
        dialect = connection.dialect.name
        if dialect not in self._compiled:
            clause = self._clause if isinstance(self._clause, ClauseElement) else self._clause(dialect)
            self._compiled[dialect] = _Compiled(clause, connection)
        return self._compiled[dialect]


class ForRows(Statement):
    """A statement for many rows: one execution on PostgreSQL, by arrays, and one for each row on SQLite."""

    def __init__(
        self, columns: Mapping[str, Column[Any]], build: Callable[[str, Given], ClauseElement]
    ) -> None:
        """`columns` declare the types of the given values; `build` gets the dialect's name and the values."""
        self._names = tuple(columns)
        super().__init__(lambda dialect: build(dialect, _given(dialect, columns)))

    def rows_for(self, connection: Connection, given: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Execute it for all rows; return its rows, in any order."""
        if not given:
            return []
        if connection.dialect.name == "postgresql":
            return self.rows(connection, {name: [row[name] for row in given] for name in self._names})
        return [row for each in given for row in self.rows(connection, each)]


def insert_rows(
    table: Table, names: Iterable[str], *returning: Column[Any], or_ignore: bool = False
) -> ForRows:
    """Return a statement that inserts rows with these columns; `or_ignore` skips those that conflict."""
    columns = {name: table.c[name] for name in names}

    def build(dialect: str, given: Given) -> ClauseElement:
        statement = _INSERT[dialect](table).from_select(list(columns), select(*given.values()))
        clause: ClauseElement = (statement.on_conflict_do_nothing() if or_ignore else statement).returning(
            *returning
        )
        return clause

    return ForRows(columns, build)


def not_listed(of: Column[str], name: str, dialect: str) -> ColumnElement[bool]:
    """Return the condition that a column is none of the texts in a parameter, which `texts` returns."""
    if dialect == "postgresql":
        # A parameter, whose texts the planner sees: it would expect no rows for those of a query.
        return of != func.all(bindparam(name, type_=ARRAY(Text)))
    return of.not_in(select(func.json_each(bindparam(name, type_=Text)).table_valued("value").c.value))


def texts(connection: Connection, values: Iterable[str]) -> Any:
    """Return the parameter of `not_listed`."""
    found = list(values)
    return found if connection.dialect.name == "postgresql" else orjson.dumps(found).decode()


def _given(dialect: str, columns: Mapping[str, Column[Any]]) -> Given:
    types: dict[str, TypeEngine[Any]] = {name: each.type for name, each in columns.items()}
    if dialect != "postgresql":
        return {name: bindparam(name, type_=of) for name, of in types.items()}
    arrays = [bindparam(name, type_=ARRAY(of)) for name, of in types.items()]
    given = func.unnest(*arrays).table_valued(*(column(name, of) for name, of in types.items()))
    return dict(given.render_derived().c.items())


class _Compiled:
    """A statement of one dialect."""

    def __init__(self, clause: Any, connection: Connection) -> None:
        dialect = connection.dialect
        compiled = clause.compile(dialect=dialect)
        self.text = str(compiled)
        self._order: Sequence[str] | None = compiled.positiontup
        #: The values that the clause itself has, by the parameter's name.
        self._fixed = {name: each.value for each, name in compiled.bind_names.items() if not each.required}
        self._driver_errors = dialect.loaded_dbapi.Error
        columns = getattr(clause, "returning_column_descriptions", None)
        columns = getattr(clause, "column_descriptions", []) if columns is None else columns
        self._row: Any = namedtuple("Row", [each["name"] for each in columns]) if columns else None
        # Only SQLite has a type that its driver does not return as Python's.
        booleans = [at for at, each in enumerate(columns) if isinstance(each["type"], Boolean)]
        self._booleans = booleans if dialect.name == "sqlite" else []

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        """Return the cursor. Raises the errors of SQLAlchemy."""
        if not connection.in_transaction():
            connection.begin()  # as SQLAlchemy does before a connection's first statement
        cursor = connection.connection.cursor()
        try:
            cursor.execute(self.text, self.values(parameters))
        except self._driver_errors as error:
            _fail(connection, error, self.text, cursor)
        return cursor

    def values(self, parameters: Mapping[str, Any]) -> Any:
        """Return the parameters as the driver expects them."""
        values = {**self._fixed, **parameters}
        return values if self._order is None else tuple(map(values.__getitem__, self._order))

    def rows_of(self, cursor: Any) -> list[Any]:
        fetched = cursor.fetchall()
        if self._booleans:
            fetched = list(map(list, fetched))
            for row in fetched:
                for at in self._booleans:
                    row[at] = bool(row[at])
        return fetched if self._row is None else list(map(self._row._make, fetched))


def _fail(connection: Connection, error: Exception, text: str, cursor: Any) -> NoReturn:
    # As if SQLAlchemy had executed it: wraps the error, and discards a connection that is lost.
    connection._handle_dbapi_exception(error, text, None, cursor, None)
