"""Processes, whatever they compute: jobs (work in children), signals that stop them, exit statuses, locks."""
