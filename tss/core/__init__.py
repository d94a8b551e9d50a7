"""What is true: plain functions and objects, with no trio, clock, I/O, log or await."""
