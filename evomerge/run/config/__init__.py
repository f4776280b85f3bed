"""The search file: its schema, what is wrong with it, what it will cost, and the checked result."""
