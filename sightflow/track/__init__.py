"""`sightflow track`: the camera stage over a file of detections, frame by frame."""
