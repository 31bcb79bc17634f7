"""Reports: findings written as files, and verified."""
