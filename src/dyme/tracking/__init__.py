"""What a run leaves behind and shows: its folder, with a documented schema, and the display."""
