"""What a merge method is, the block-wise pass that runs one, and the arithmetic that several methods share."""
