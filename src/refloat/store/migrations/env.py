"""Alembic's entry: migrates the SQLite file `path`, or writes PostgreSQL's statements to `script`.

PostgreSQL's are executed by `schema`, through the driver that everything else uses.
"""

from alembic import context
from sqlalchemy import create_engine, pool

given = context.config.attributes
if "script" in given:
    context.configure(
        dialect_name="postgresql", output_buffer=given["script"], literal_binds=True, transactional_ddl=False
    )
    context.run_migrations()
else:
    engine = create_engine(f"sqlite:///{given['path']}", poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
