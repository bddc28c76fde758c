"""What-if studies: Monte Carlo simulation of grids of schemes and their parameters."""
