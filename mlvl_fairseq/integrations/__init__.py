"""Models of this plugin inside other programs; one file a program, which is not installed with the plugin."""
