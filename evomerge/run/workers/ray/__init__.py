"""Workers as Ray actors, on one machine or a cluster."""
