"""From the launcher to the ranks: starts, watches and ends them."""
