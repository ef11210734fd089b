"""`sightflow evaluate`: tracking results against ground truth, scored by TrackEval."""
