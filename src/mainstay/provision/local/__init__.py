"""A whole cluster on one machine, from real programs: for `mainstay cluster demo` and for the fault tests.

`LocalStack` is the way in. Linux only: processes are found in /proc and ended by the kernel with us.
"""

from mainstay.provision.local.member import HERE, Member, Place
from mainstay.provision.local.stack import LocalStack, NoSuchMember
from mainstay.provision.programs import ProgramMissing
from mainstay.provision.waiting import StackFailed

__all__ = ["HERE", "LocalStack", "Member", "NoSuchMember", "Place", "ProgramMissing", "StackFailed"]
