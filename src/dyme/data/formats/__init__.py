"""Files of rows in the formats that people have."""
