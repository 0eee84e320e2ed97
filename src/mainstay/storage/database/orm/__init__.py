"""PostgreSQL as Django's ORM meets it: the same care for failovers as the hand-written SQL takes."""
