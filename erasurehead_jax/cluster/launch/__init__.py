"""The launcher's part: starts, watches and ends the ranks."""
