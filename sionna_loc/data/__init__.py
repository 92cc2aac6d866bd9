"""From scenarios and files to `tf.data` datasets of samples."""
