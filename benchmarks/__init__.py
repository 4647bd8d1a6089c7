"""What tracking costs, beside what does less, in the same run: ``python -m benchmarks``."""
