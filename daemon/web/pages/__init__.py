"""The pages at /ui/, for people who would rather look. One file a page; docs/pages.md tells what each shows."""
