"""The recipes that come with the package, reading any recipe, and the numbers that the paper prints."""
