"""A local page that shows what exported files answer: images, prompts and masks over HTTP, an extra."""
