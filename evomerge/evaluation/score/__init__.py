"""On the worker, for each candidate: batches, log-likelihoods, generation."""
