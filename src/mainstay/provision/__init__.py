"""Other programs that Mainstay starts or writes configuration for: databases, balancers, whole test clusters.

No tables and no settings of ours in here: callers say what they want.
"""
