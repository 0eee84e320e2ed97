"""What replicas send on to this site, beside what they pass on as it is: looks, and sessions of SSH."""
