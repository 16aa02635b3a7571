"""Three ways of turning past responses into better candidates; each plans requests and does no I/O."""
