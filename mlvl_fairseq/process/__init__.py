"""Processes: signals, exit statuses, children, locks. Nothing here knows what the processes compute."""
