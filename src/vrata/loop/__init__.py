"""The reconcile loop: key queue, backoff, requeue; knows no domain."""
