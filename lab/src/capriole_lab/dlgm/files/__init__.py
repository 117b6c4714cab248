"""Images and model folders on disk."""
