"""The parts that every Segment Anything model shares, in plain torch."""
