"""The only package that imports MLflow. Trainings write to disk; a separate process sends that to the store."""
