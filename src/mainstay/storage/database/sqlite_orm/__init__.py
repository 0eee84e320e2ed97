"""Django's engine for SQLite, with the fence of `storage.database.fence`."""
