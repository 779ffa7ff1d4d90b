"""Images, prompts and masks as arrays; no model, and but for resizing no torch."""
