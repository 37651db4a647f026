"""`make systemd-test`: Postroom's package under a real systemd, in a container."""
