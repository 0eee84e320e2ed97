"""What pages and the API say on a site that serves neither: a replica, or a primary that was superseded."""
