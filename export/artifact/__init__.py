"""The artifact folder: where it goes, and every file in it except the graphs."""
