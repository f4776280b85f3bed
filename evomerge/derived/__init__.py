"""What else is made of models: greedy soups, mixtures of experts, LoRA adapters. One sub-package each."""
