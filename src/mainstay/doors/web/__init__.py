"""The door for people with a browser, and the way from the data plane to the web process."""
