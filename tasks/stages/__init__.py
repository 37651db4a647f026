"""The steps of a job as plain functions: no Celery, no SQL."""
