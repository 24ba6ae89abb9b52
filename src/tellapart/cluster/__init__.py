"""Work spread over the machines of a Ray cluster: Ray schedules, retries and moves; the other rooms do the work."""
