"""One attempt of one run: lease, recover, run, checkpoint, release."""
