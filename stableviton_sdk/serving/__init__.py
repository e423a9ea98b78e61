"""The HTTP service and its page: one queue of jobs, an API over it, and static files."""
