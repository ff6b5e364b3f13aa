"""Changes the code in small ways, one at a time; names the changes that no unit test notices."""
