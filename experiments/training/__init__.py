"""What the experiments share: networks, schedules, precision, selection."""
