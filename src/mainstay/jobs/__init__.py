"""Work for later: a queue with leases in SQL, periodic jobs, and the worker that also empties the outbox.

Everything is done at least once: a worker that dies leaves its leases to run out, and another worker does
the work again. Handlers are therefore idempotent.
"""
