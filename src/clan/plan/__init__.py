"""From the clan to what one machine must have, and from that to a generation."""
