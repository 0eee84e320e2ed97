"""What rooms above may want to do in the same transaction. Receivers are called inside it."""

from django.dispatch import Signal

user_created = Signal()
"""`user`: a new user, not yet committed. `projects` gives them a namespace or refuses the name."""

user_renamed = Signal()
"""`user`: has a new user name, not yet committed. `projects` moves their namespace."""
