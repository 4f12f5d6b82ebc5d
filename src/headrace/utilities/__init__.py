"""Helpers under the names that users of Prefect import them by; each file is one family of functions."""
