"""Alembic's entry: runs the migrations on the database file that `schema.migrate` names."""

from alembic import context
from sqlalchemy import create_engine, pool

from refloat.store.tables import metadata

engine = create_engine(f"sqlite:///{context.config.attributes['path']}", poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
