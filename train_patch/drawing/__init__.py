"""Parts of hmix-preview: the images, a mixer that remembers what it did, the pictures."""
