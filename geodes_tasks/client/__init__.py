"""Ask for downloads, steer them, and run them on this machine."""
