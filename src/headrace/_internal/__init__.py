"""Small families of functions that every part may use; each file is one family."""
