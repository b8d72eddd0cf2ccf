"""The mesh: machines that find each other, and their way to each other, by themselves."""
