"""Commands that list methods, recipes, settings and tasks."""
