"""What strangers send: pictures, values, addresses and repositories that nobody means well with, and a page that gets them."""
