"""A resident model whose weights are overwritten, candidate after candidate."""
