"""The same as `newborn`, executed."""

from support.newborn import main

main()
