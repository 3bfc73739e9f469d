"""What it costs, measured against bare yardsticks and against peers: ``python -m benchmarks``."""
