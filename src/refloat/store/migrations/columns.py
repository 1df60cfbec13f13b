"""The two types of column that migrations use.

Text sorts by its bytes whatever the locale of the database, as ids and cursors need it.
"""

import sqlalchemy
from sqlalchemy import BigInteger

TEXT = sqlalchemy.Text().with_variant(sqlalchemy.Text(collation="C"), "postgresql")
INTEGER = sqlalchemy.Integer().with_variant(BigInteger(), "postgresql")
