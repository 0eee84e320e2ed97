"""Tell the world which site is the primary, as the settings say; look beforehand whether it would work."""
