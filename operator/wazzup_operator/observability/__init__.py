"""What the operator tells of itself: metrics, health, logs. Imported by the edges only."""
