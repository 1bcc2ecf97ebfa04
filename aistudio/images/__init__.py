"""Images: fetching, decoding and resizing. No torch, no ray; see download.py, decode.py, transform.py."""
