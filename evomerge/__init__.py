"""evomerge: find the best merge of language models by evolutionary search, and prove that it is better."""
