"""What a replica does with a request of Git: serve it from what it has, or send it on to the primary.

`decisions` says what to do and why, `chooser` finds out what is needed to decide, `line` speaks to the
primary, `whereabouts` knows where it is, `holdings` what of a repository is here. The doors (`doors.githttp`,
`doors.ssh`) do what was decided; the primary's end is `doors.forwarded`. See docs/design/forwarding.md.
"""
