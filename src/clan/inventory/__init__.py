"""From the clan's file to the resolved clan: load, resolve, check, edit, select."""
