"""Entry points, one module per verb: parse the command line, load the settings, call the program, exit."""
