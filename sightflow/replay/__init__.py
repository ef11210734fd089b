"""What-if: recorded detections through the camera stage under other settings, and what would be different."""
