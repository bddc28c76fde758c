"""From recorded times of workers to what to do about stragglers."""
