"""Reading the memory as a person does: entries, lineage, overviews, SQL in a browser."""
