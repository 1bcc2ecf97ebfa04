"""AI Studio: distributed batch scoring of catalogue images, and what one does with the stored result."""
