"""The works that the Sora report builds on, and alternatives to our choices, on our own parts."""
