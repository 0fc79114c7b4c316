"""Passing requests on to the old servers, byte for byte."""
