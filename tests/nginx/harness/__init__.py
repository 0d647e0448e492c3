"""Servers, clients and checks that the end-to-end suites share."""
