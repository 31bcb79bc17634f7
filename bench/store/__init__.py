"""Where trainings are recorded: MLflow, the spool on this disk, locks, artifacts."""
