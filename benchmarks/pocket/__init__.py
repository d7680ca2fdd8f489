"""What the pocket model is judged by: its world, who reads pictures of it, and what each part must be shown to do."""
