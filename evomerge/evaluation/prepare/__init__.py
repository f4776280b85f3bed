"""On the driver, once: tasks, the three pools, prompts and items."""
