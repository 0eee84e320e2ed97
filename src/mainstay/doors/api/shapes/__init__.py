"""The objects of the API: one pure function per object, from our values to GitLab's full set of fields.

Every field is always there, null when we have nothing to say: clients written in Go crash on absent ones.
"""
