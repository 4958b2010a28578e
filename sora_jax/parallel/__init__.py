"""Which part of which array lies on which device."""
