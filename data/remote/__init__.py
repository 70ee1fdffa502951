"""Files that lie elsewhere: web servers, object stores and the Hugging Face Hub, read by ranges.

Imports `runtime` alone.
"""
