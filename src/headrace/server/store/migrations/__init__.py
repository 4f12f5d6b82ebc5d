"""The history of the schema: Alembic's environment and one script a change.

The tables in `headrace.server.store.tables` are the truth; a script brings an older database up to them. To add one:

    alembic -c src/headrace/server/store/migrations/alembic.ini -x url=sqlite:///scratch.db upgrade head
    alembic -c src/headrace/server/store/migrations/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m ...

then set `HEAD` in `headrace.server.store.schema` to its revision. Tests compare what the scripts build with the tables.
"""
