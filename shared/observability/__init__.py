"""What a running service shows of itself: log lines, metrics, traces and its latest deliveries."""
