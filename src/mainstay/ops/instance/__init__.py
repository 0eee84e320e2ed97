"""Facts about this instance in its database: who it is, its secret key, what it was prepared for."""
