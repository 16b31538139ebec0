"""README and documentation say what is true: every code block runs, every link leads somewhere."""
