"""Pictures: reading them, and named transforms."""
