"""A PostgreSQL server that Mainstay itself runs."""
