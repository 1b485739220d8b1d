"""Files and their names, whatever is in them. Imports `errors` alone."""
