"""What every room stands on: clock, ids, errors, settings, logs, metrics, retry, failpoints.

Small and closed. Nothing here knows Git, a database, a socket or Django.
"""
