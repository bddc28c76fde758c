"""What if: a grid of schemes, loads and waits, simulated many times over."""
