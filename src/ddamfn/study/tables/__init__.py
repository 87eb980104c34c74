"""The tables of a study: each turns a base run into rows of jobs."""
