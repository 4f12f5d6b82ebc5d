"""Whether a run may go from one state to another, and what follows: pure tables of rules, without I/O."""
