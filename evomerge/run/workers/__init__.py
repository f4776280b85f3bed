"""What a worker is asked, what it answers, and the executors that run workers."""
