"""The fault harness: load, faults, a recorded history, and the judges of that history.

`history` what clients saw, `registers` is it linearizable (linear time), `exact` the same by exhaustive
search for small histories, which keeps `registers` honest.
"""
