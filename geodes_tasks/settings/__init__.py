"""The settings of the program, and the files and variables that they come from."""
