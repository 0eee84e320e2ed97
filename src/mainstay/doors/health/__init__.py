"""The door for machines that watch: health, readiness, liveness, metrics, status."""
