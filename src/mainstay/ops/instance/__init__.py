"""Facts about this instance that live in its database: who it is, its secret key, what it was prepared for."""
