"""Export to a Lance data set, and search in one."""
