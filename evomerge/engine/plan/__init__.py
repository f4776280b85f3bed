"""What to build: one `TensorPlan` for each output tensor, from a recipe and the parents' headers."""
