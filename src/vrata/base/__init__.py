"""What everything may use: ids, errors, clock, the wire model between cloud and host."""
