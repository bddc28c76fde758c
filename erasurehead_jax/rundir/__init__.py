"""What a run leaves behind: its files, its metrics, and who answered when."""
